//! A task that forgets its position and begins anew.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::ports::Target as _;

use crate::world::World;

fn key() -> TaskKey {
    TaskKey {
        server: "simulation".into(),
        task: "bank".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_task_replaces_the_rows_it_wrote() {
    let world = World::new();
    // Table 0 is empty when it is loaded: all of its rows come by the stream.
    world.source.commit(&[1, 2, 3].map(|id| (0, Err(id))));
    let source = || Arc::new(world.source.clone());
    world.run(source()).await.unwrap();
    world.source.commit(&[(0, Ok(vec![1, 300]))]);
    world.run(source()).await.unwrap();
    assert!(world.equal());
    world.target.forget(&key()).await.unwrap();
    // Changes that no run will see in the log.
    world.source.commit(&[(0, Err(1)), (0, Ok(vec![7, 300]))]);
    world.run(source()).await.unwrap();
    assert!(world.equal());
}

#[tokio::test(start_paused = true)]
async fn rows_of_others_are_refused_however_often_it_is_tried() {
    let world = World::new();
    world.run(Arc::new(world.source.clone())).await.unwrap();
    // The checkpoint is gone, the rows are there: they could be anybody's.
    world.target.release(&key()).await.unwrap();
    for _ in 0..3 {
        let error = world.run(Arc::new(world.source.clone())).await.unwrap_err();
        assert!(error.message().contains("has rows"), "{error}");
        world.target.forget(&key()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn tables_that_were_followed_are_never_followed_from_another_place() {
    let world = World::new();
    world.run(Arc::new(world.source.clone())).await.unwrap();
    world.target.lose_position();
    // Nobody would ever see it.
    world.source.commit(&[(0, Ok(vec![7, 300]))]);
    let error = world.run(Arc::new(world.source.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::PositionLost, "{error}");
    world.target.forget(&key()).await.unwrap();
    world.run(Arc::new(world.source.clone())).await.unwrap();
    assert!(world.equal());
}
