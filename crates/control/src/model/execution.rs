//! What became of a run of a task, in the words of the API's monitors.

/// State of an execution (the API's `execute_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecuteStatus {
    /// Never run.
    Unstarted,
    /// To be started.
    Waiting,
    /// Runs, or waits for trouble to pass.
    Running,
    /// Ended by itself; a composite task never does.
    Success,
    /// Stopped by a person.
    Cancelled,
    /// Stopped by an error.
    Error,
}

impl ExecuteStatus {
    /// All of them.
    pub const ALL: [ExecuteStatus; 6] = [
        ExecuteStatus::Unstarted,
        ExecuteStatus::Waiting,
        ExecuteStatus::Running,
        ExecuteStatus::Success,
        ExecuteStatus::Cancelled,
        ExecuteStatus::Error,
    ];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ExecuteStatus::Unstarted => "UNSTARTED",
            ExecuteStatus::Waiting => "WAITING",
            ExecuteStatus::Running => "RUNNING",
            ExecuteStatus::Success => "SUCCESS",
            ExecuteStatus::Cancelled => "CANCELLED",
            ExecuteStatus::Error => "ERROR",
        }
    }

    /// From the word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

/// Which part of an execution speaks (the API's `position`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Preparing.
    Adapter,
    /// The source's end.
    Reader,
    /// The target's end.
    Writer,
}

impl Node {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Node::Adapter => "ADAPTER",
            Node::Reader => "READER",
            Node::Writer => "WRITER",
        }
    }

    /// From the word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        [Node::Adapter, Node::Reader, Node::Writer]
            .into_iter()
            .find(|n| n.as_str() == word)
    }
}

/// How that part stands (the API's `position_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStatus {
    /// It works.
    Normal,
    /// It has done its part.
    NodeEnd,
    /// It was stopped by a person.
    RuntimeCancel,
    /// It failed.
    RuntimeErr,
    /// A fault of ours.
    InternalErr,
}

impl NodeStatus {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeStatus::Normal => "NORMAL",
            NodeStatus::NodeEnd => "NODE_END",
            NodeStatus::RuntimeCancel => "RUNTIME_CANCEL",
            NodeStatus::RuntimeErr => "RUNTIME_ERR",
            NodeStatus::InternalErr => "INTERNAL_ERR",
        }
    }

    /// From the word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        use NodeStatus::{InternalErr, NodeEnd, Normal, RuntimeCancel, RuntimeErr};
        [Normal, NodeEnd, RuntimeCancel, RuntimeErr, InternalErr]
            .into_iter()
            .find(|n| n.as_str() == word)
    }
}

/// Figures of an execution or of one of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows stored at the target.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows the target refused.
    pub dirty: u64,
}

/// One run of a task, from `run` to its end; restarts of the server do not end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The API's tracking id: 32 hexadecimal digits.
    pub id: String,
    /// When `run` was called; milliseconds since the Unix epoch, as all times here.
    pub dispatched_ms: i64,
    /// When it began.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// Its state.
    pub status: ExecuteStatus,
    /// The part that speaks.
    pub node: Node,
    /// How that part stands.
    pub node_status: NodeStatus,
    /// One of the contract's numeric codes.
    pub code: u16,
    /// What there is to say; for an error the fact and the fix.
    pub remarks: String,
    /// Totals.
    pub figures: Figures,
    /// Its steps, oldest first.
    pub steps: Vec<Step>,
}

/// One step of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The part that made it.
    pub node: Node,
    /// How that part stood.
    pub node_status: NodeStatus,
    /// One of the contract's numeric codes.
    pub code: u16,
    /// What worked: `preflight`, `load`, `stream`.
    pub stage: String,
    /// What there is to say.
    pub remarks: String,
    /// Figures of this step.
    pub figures: Figures,
    /// When it began.
    pub begin_ms: i64,
    /// When it ended.
    pub end_ms: Option<i64>,
}
