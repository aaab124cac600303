"""What every field of every answer must look like, as JSON, before the SDK makes objects of it.

The SDK forgives much (a string "false" is true to it, unknown fields are dropped), so the raw
answer is checked: the keys are exactly those of the contract, and each value has its type.
"""

import json
import re

INT_MAX = 2**63 - 1


def text(low=0, high=1 << 20):
    def check(value):
        return isinstance(value, str) and low <= len(value) <= high

    check.name = f"string of {low} to {high} characters"
    return check


def one_of(*values):
    def check(value):
        return any(type(value) is type(known) and value == known for known in values)

    check.name = f"one of {list(values)}"
    return check


def number(low=0, high=INT_MAX):
    def check(value):
        return type(value) is int and low <= value <= high

    check.name = f"integer from {low} to {high}"
    return check


def pattern(expression, name):
    def check(value):
        return isinstance(value, str) and re.fullmatch(expression, value) is not None

    check.name = name
    return check


def real(value):
    return type(value) in (int, float) and value >= 0


def boolean(value):
    return type(value) is bool


real.name, boolean.name = "number", "true or false"

ID = pattern(r"[0-9a-f]{32}", "32 hex digits")
ANY_ID = text(1, 64)
UUID = pattern(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID")
MS = number(1, 9999999999999)
ISO = pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "ISO-8601 time with Z")
ISO_MS = pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "ISO-8601 time with Z")
NUMERIC = pattern(r"\d{1,8}", "digits")
FLAG = one_of("0", "1")
EXECUTION = one_of("UNSTARTED", "WAITING", "RUNNING", "SUCCESS", "CANCELLED", "ERROR")
POSITION = one_of("ADAPTER", "READER", "WRITER")
POSITION_STATUS = one_of(
    "NORMAL", "NODE_END", "RUNTIME_CANCEL", "TASK_END", "RUNTIME_ERR", "INTERNAL_ERR"
)
USER = {"user_id": text(1), "user_name": text(1)}


class Maybe:
    """A field that may be missing or null."""

    def __init__(self, inner):
        self.inner = inner


APP = {
    "id": UUID,
    "name": text(1, 256),
    "remark": Maybe(text(0, 255)),
    "roles": [one_of("read", "access", "delete", "modify", "admin")],
    "create_time": ISO,
    "update_time": ISO,
    "created_user": USER,
    "last_updated_user": USER,
    "owner": boolean,
    "key": text(3, 200),
    "favorite": boolean,
}
APPS = {"total": number(), "size": number(), "apps": [APP]}
CONTENT = {
    "host": text(1, 255),
    "port": pattern(r"\d{1,5}", "port as a string"),
    "database_name": text(1),
    "user_name": text(1),
    "mode": one_of("default"),
    "encoding": Maybe(text(1)),
    "mysql_timeout": Maybe(number(1, 20000)),
    # No password: secrets are never given back.
}
DATASOURCE = {
    "datasource_id": ID,
    "datasource_name": text(1, 255),
    "datasource_type": one_of("MYSQL", "POSTGRESQL", "ORACLE"),
    "vpc_id": Maybe(text()),
    "app_id": UUID,
    "app_name": text(1, 256),
    "instance_id": UUID,
    "create_time": MS,
    "update_time": MS,
    "custom_plugin_id": Maybe(text()),
    "content": CONTENT,
    "description": Maybe(text(0, 1024)),
    "app_permission": [one_of("read", "access", "delete", "modify")],
}
DATASOURCES = {"total": number(), "size": number(), "entities": [DATASOURCE]}
TABLES = {"tables": [text(1)]}
COLUMN = {
    "field_name": text(1, 256),
    "field_type": text(1, 256),
    "field_length": Maybe(text()),
    "null_able": FLAG,
    "is_partition": boolean,
    "primary": FLAG,
    "unique": FLAG,
    "decimal_digits": Maybe(NUMERIC),
}
COLUMNS = {"columns": [COLUMN]}
COLUMN_INFO = {"field_name": text(1, 256), "field_type": text(1, 256), "field_length": Maybe(text())}
COLUMN_PAIR = {
    f"{side}_column{part}": Maybe(text()) if part else text(1)
    for side in ("source", "target")
    for part in ("", "_type", "_length")
}
MAPPING = {
    "id": ANY_ID,
    "source_table": text(1, 256),
    "target_table": text(1, 256),
    "updated_time": MS,
    "mapping_percent": number(0, 100),
    "status": one_of("AUTO", "MANUAL", "ADD", "UPDATE", "DELETE", "USING"),
    "source_columns": [COLUMN_INFO],
    "target_columns": [COLUMN_INFO],
    "mapping": [COLUMN_PAIR],
}
MAPPINGS = {
    "ext_info": Maybe({"server_id": Maybe(pattern(r"\d{1,10}", "server id"))}),
    "task_id": ID,
    "source_datasource_id": Maybe(ID),
    "target_datasource_id": Maybe(ID),
    "source_group": Maybe(text()),
    "target_group": Maybe(text()),
    "source_ds_id": Maybe(ID),
    "target_ds_id": Maybe(ID),
    "source_instance_id": Maybe(UUID),
    "target_instance_id": Maybe(UUID),
    "source_app_id": Maybe(UUID),
    "target_app_id": Maybe(UUID),
    "source_datasource_name": Maybe(text(1)),
    "target_datasource_name": Maybe(text(1)),
    "source_datasource_type": Maybe(one_of("MYSQL")),
    "target_datasource_type": Maybe(one_of("POSTGRESQL")),
    "mappings": [MAPPING],
    "mappings_total_count": number(),
}
INIT = [MAPPINGS]
TASK_ID = {"task_id": ID}
MAPPING_ID = {"mapping_id": ANY_ID}
TASK = {
    "task_id": ID,
    "task_name": text(3, 100),
    "task_type": one_of("realtime", "timing"),
    "status": one_of("stop", "running"),
    "project_id": ID,
    "source_datasource_id": Maybe(ID),
    "target_datasource_id": Maybe(ID),
    "source_datasource_name": Maybe(text(1)),
    "target_datasource_name": Maybe(text(1)),
    "source_app_id": Maybe(UUID),
    "target_app_id": Maybe(UUID),
    "source_app_name": Maybe(text(1)),
    "target_app_name": Maybe(text(1)),
    "created_date": MS,
    "last_modified_date": MS,
    "description": Maybe(text(0, 1024)),
    "task_tag": Maybe(text(0, 64)),
}
SHOWN = {"task": TASK, "task_detail": text()}
DISPATCH = {
    "dispatch_id": ID,
    "task_id": ID,
    "start_datetime": Maybe(MS),
    "period": Maybe(one_of("MIN", "HOUR", "DAY", "WEEK", "MON")),
    "dispatch_interval": Maybe(number(1, 60)),
    "remark": Maybe(text(1, 36)),
    "use_quartz_cron": boolean,
    "cron": Maybe(text(8, 255)),
    "created_date": MS,
    "last_modified_date": MS,
}
BRIEF = {
    "task_id": ID,
    "task_name": text(3, 100),
    "task_type": one_of("REALTIME", "TIMING"),
    "status": number(0, 1),
    "created_date": ISO_MS,
    "version": Maybe(text(0, 10)),
    "last_modified_time": MS,
    "execute_status": EXECUTION,
    "source_app_id": Maybe(UUID),
    "target_app_id": Maybe(UUID),
    "source_instance_id": Maybe(UUID),
    "target_instance_id": Maybe(UUID),
    "ext_type": Maybe(one_of("CDC")),
    "enterprise_project_id": Maybe(text()),
    "task_tag": Maybe(text(0, 64)),
}
TASKS = {"total": number(), "size": number(0, 1000), "entities": [BRIEF]}
BATCH_ITEM = {
    "task_id": ANY_ID,
    "task_name": Maybe(text(0, 100)),
    "error_code": Maybe(text(0, 64)),
    "error_msg": Maybe(text(0, 512)),
}
BATCH = {
    "success_count": number(),
    "failure_count": number(),
    "success": [BATCH_ITEM],
    "failure": [BATCH_ITEM],
}
COUNTS = {
    f"{what}_tasks_count": number() for what in ("running", "abnormal", "terminated", "completed")
}
STATISTICS = {"common_task_details": COUNTS, "cdc_task_details": COUNTS}
MONITOR = {
    "task_id": ID,
    "task_name": text(3, 100),
    "task_type": one_of("REALTIME", "TIMING"),
    "status": number(0, 1),
    "last_execute_time": Maybe(MS),
    # Schedules belong to scheduled tasks only.
    "use_quartz_cron": Maybe(boolean),
    "cron": Maybe(text()),
    "period": Maybe(text()),
    "dispatch_interval": Maybe(number(1, 60)),
    "position": Maybe(POSITION),
    "execute_status": EXECUTION,
    "source_app_id": Maybe(UUID),
    "source_app_name": Maybe(text(1)),
    "source_instance_id": Maybe(UUID),
    "target_app_id": Maybe(UUID),
    "target_app_name": Maybe(text(1)),
    "target_instance_id": Maybe(UUID),
    "ext_type": Maybe(one_of("CDC")),
    "enterprise_project_id": text(),
    "task_tag": Maybe(text(0, 64)),
}
MONITORS = {"total": number(), "size": number(), "entities": [MONITOR]}
LOG_COMMON = {
    "id": text(10, 40),
    "status": number(16, 999),
    "position": POSITION,
    "position_status": POSITION_STATUS,
    "dirty_data_count": number(),
    "data_count": number(),
    "data_size": real,
    "data_size_unit": text(1),
    "spend_time": number(),
    "remarks": Maybe(text()),
}
STEP = {
    **LOG_COMMON,
    "id": text(1, 64),
    "stage": text(1),
    "step_begin_time": MS,
    "step_end_time": Maybe(MS),
}
LOG = {
    **LOG_COMMON,
    "start_time": MS,
    "dispatch_time": MS,
    "end_time": Maybe(MS),
    "execute_status": EXECUTION,
    "read_spend_time": Maybe(number()),
    "write_spend_time": Maybe(number()),
    "detail_logs": [STEP],
}
LOGS = {"total": number(), "size": number(), "entities": [LOG]}
RESULT = {"result": one_of(True)}


def message(value):
    return {"message": one_of(value)}


def wrong(shape, value, path="answer"):
    """Everything that is wrong with `value`, as sentences."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{path} is no array: {short(value)}"]
        return [s for at, item in enumerate(value) for s in wrong(shape[0], item, f"{path}[{at}]")]
    if not isinstance(shape, dict):
        return [] if shape(value) else [f"{path} is {short(value)}, wanted {shape.name}"]
    if not isinstance(value, dict):
        return [f"{path} is no object: {short(value)}"]
    said = [f"{path} has a field {key} that the contract lacks" for key in value if key not in shape]
    for key, inner in shape.items():
        optional = isinstance(inner, Maybe)
        if value.get(key) is None:
            said += [] if optional else [f"{path}.{key} is missing or null"]
        else:
            said += wrong(inner.inner if optional else inner, value[key], f"{path}.{key}")
    return said


def lost(made, value, path="answer"):
    """Fields of the raw answer that the SDK's object does not have."""
    if isinstance(value, dict):
        return [
            sentence
            for key, inner in value.items()
            if inner is not None
            for sentence in lost(getattr(made, key, None), inner, f"{path}.{key}")
        ]
    return [f"the SDK lost {path}"] if made is None and value != [] else []


def short(value):
    return json.dumps(value)[:200]
