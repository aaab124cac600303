"""The whole life of composite tasks, driven by the official SDK with AK/SK signatures.

Usage: life.py < CONFIG.json

CONFIG is {"endpoint", "project_id", "instance_id", "ak", "sk", "source", "target"}, where source
(a MariaDB) and target (a PostgreSQL) are {"host", "port", "user", "password", "database"}. Tables
are made in both with their command-line clients. All that was found wrong is printed; 1 at the end
if anything was.
"""

import json
import sys
import time
import traceback

import huaweicloudsdkroma.v2 as roma
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.http.http_handler import HttpHandler

import shapes
from databases import Source, Target

DEADLINE = 60
ALL = ["INSERT", "UPDATE", "DELETE"]
NOWHERE = "0123456789abcdef0123456789abcdef"


class Life:
    def __init__(self, config):
        self.config, self.failures, self.raw = config, [], None
        self.source, self.target = Source(config["source"]), Target(config["target"])
        self.client = self.connect(config["ak"], config["sk"])

    def connect(self, ak, sk):
        http = HttpConfig.get_default_config()
        http.timeout = (10, 120)
        handler = HttpHandler().add_response_handler(self.keep)
        return (
            roma.RomaClient.new_builder()
            .with_http_config(http)
            .with_http_handler(handler)
            .with_credentials(BasicCredentials(ak, sk, self.config["project_id"]))
            .with_endpoint(self.config["endpoint"])
            .build()
        )

    def keep(self, **kwargs):
        self.raw = kwargs["response"]

    def check(self, holds, sentence):
        if not holds:
            line = traceback.extract_stack(limit=3)
            where = next(f.lineno for f in reversed(line) if f.name not in ("check", "same"))
            self.failures.append(f"life.py:{where}: {sentence}")
            print("WRONG", self.failures[-1], flush=True)
        return holds

    def same(self, name, found, wanted):
        return self.check(found == wanted, f"{name} is {found!r}, wanted {wanted!r}")

    # Calls.

    def request(self, operation, **fields):
        """The request object of an operation, and the client's method for it."""
        kind = getattr(roma, operation + "Request")
        method = "".join("_" + c.lower() if c.isupper() else c for c in operation).lstrip("_")
        request = kind(instance_id=self.config["instance_id"], **fields)
        return getattr(self.client, method), request

    def call(self, operation, shape, expect=200, **fields):
        """Calls an operation; the answer must have this status and shape. Its SDK object."""
        method, request = self.request(operation, **fields)
        self.raw = None
        try:
            answer = method(request)
        except Exception as error:  # noqa: BLE001: whatever it is, it is told and ends the life
            raise AssertionError(f"{operation} {fields}: {error!r} {error}") from error
        print("ok   ", operation, answer.status_code, flush=True)
        found = answer.status_code
        self.check(found == expect, f"{operation}: {found}, not {expect}")
        self.check(self.raw.headers.get("X-Request-Id"), f"{operation}: no X-Request-Id")
        if shape is None:
            self.check(self.raw.content == b"", f"{operation}: a body: {self.raw.content[:200]}")
            return answer
        body = json.loads(self.raw.content)
        for sentence in shapes.wrong(shape, body):
            self.check(False, f"{operation}: {sentence}")
        made = answer.body if isinstance(body, list) else answer
        if isinstance(body, dict):
            for sentence in shapes.lost(made, body):
                self.check(False, f"{operation}: {sentence}")
        return answer

    def refused(self, operation, status, code, names="", client=None, **fields):
        """Calls an operation that must be refused, and looks at the SDK's exception."""
        own, self.client = self.client, client or self.client
        method, request = self.request(operation, **fields)
        self.client = own
        try:
            answer = method(request)
        except ClientRequestException as error:
            print("ok   ", operation, error.status_code, error.error_code, flush=True)
            found = (error.status_code, error.error_code)
            self.same(f"{operation}: status and code ({error.error_msg})", found, (status, code))
            self.check(names in error.error_msg, f"{operation}: {names} not in {error.error_msg}")
            self.check(2 <= len(error.error_msg) <= 512, f"{operation}: message's length")
            header = self.raw.headers.get("X-Request-Id")
            self.check(error.request_id and error.request_id == header, f"{operation}: request id")
        except Exception as error:  # noqa: BLE001
            self.check(False, f"{operation}: {error!r} {error}")
        else:
            self.check(False, f"{operation}: {answer.status_code} {self.raw.text[:200]}")

    def mappings(self, task, **query):
        """ListMultiTaskMappings, which the SDK lacks: signed and sent by its own HTTP layer."""
        answer = self.client.do_http_request(
            method="GET",
            resource_path="/v2/{project_id}/fdi/instances/{instance_id}/multi-tasks/{task_id}/mappings",
            path_params={"instance_id": self.config["instance_id"], "task_id": task},
            query_params=list(query.items()),
            header_params={},
            post_params={},
            collection_formats={},
            response_type="MultiTaskInitElement",
        )
        body = json.loads(self.raw.content)
        for sentence in shapes.wrong(shapes.MAPPINGS, body) + shapes.lost(answer, body):
            self.check(False, f"ListMultiTaskMappings: {sentence}")
        self.check(self.raw.status_code == 200, f"ListMultiTaskMappings: {self.raw.status_code}")
        self.check(self.raw.headers.get("X-Request-Id"), "ListMultiTaskMappings: no X-Request-Id")
        print("ok    ListMultiTaskMappings", flush=True)
        return answer

    def until(self, what, condition):
        """Waits until the condition holds."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        self.explain()
        raise AssertionError(f"not within {DEADLINE} s: {what}")

    def explain(self):
        for task in self.call("ListTasks", shapes.TASKS).entities:
            self.call("ListMonitorLog", shapes.LOGS, task_id=task.task_id)
            print("      ", task.task_name, task.execute_status, self.raw.text[:3000], flush=True)

    # The life.

    def apps(self):
        body = roma.CreateAppReq(
            name="Source 源_1 (a-b.c)", remark="r", key="key-of-source", secret="s" * 8, favorite=True
        )
        one = self.call("CreateRomaApp", shapes.APP, 201, body=body)
        self.same("name", one.name, body.name)
        self.same("remark, key", (one.remark, one.key), ("r", "key-of-source"))
        self.same("favorite", one.favorite, True)
        self.same("owner", one.owner, True)
        self.same("users", one.created_user.user_id, one.last_updated_user.user_id)
        self.check("admin" in one.roles, f"roles of the owner are {one.roles}")
        self.check("s" * 8 not in self.raw.text, "the secret is in the answer")
        two = self.call("CreateRomaApp", shapes.APP, 201, body=roma.CreateAppReq(name="target"))
        self.same("favorite by default", two.favorite, False)
        self.refused(
            "CreateRomaApp", 400, "ROMA.00013000", "name", body=roma.CreateAppReq(name="target")
        )
        shown = self.call("CheckRomaAppDetails", shapes.APP, app_id=one.id)
        self.same("the app shown", shown.to_dict(), one.to_dict())
        update = roma.UpdateAppReq(name="source", remark="other", favorite=False)
        changed = self.call("UpdateRomaApp", shapes.APP, app_id=one.id, body=update)
        found = (changed.id, changed.name, changed.remark, changed.favorite, changed.key)
        self.same("the app changed", found, (one.id, "source", "other", False, one.key))
        self.check(changed.update_time >= one.update_time, "update_time went back")
        self.same("create_time", changed.create_time, one.create_time)
        for query, wanted in (
            ({}, {"source", "target"}),
            ({"name": "arge"}, {"target"}),
            ({"favorite": True}, set()),
            ({"favorite": False, "name": "source"}, {"source"}),
            ({"owner": True, "user_name": one.created_user.user_name}, {"source", "target"}),
        ):
            listed = self.call("ListRomaApp", shapes.APPS, **query)
            self.check(wanted <= {app.name for app in listed.apps}, f"apps {query}: {listed}")
            if query:
                self.same(f"total of {query}", listed.total, len(wanted))
        page = self.call("ListRomaApp", shapes.APPS, offset=1, limit=1)
        self.same("size, total of a page", (page.size, page.total), (1, 2))
        self.source_app, self.target_app = one.id, two.id

    def datasource(self, name, kind, app, end, **more):
        content = roma.Content(
            host=end.host,
            port=str(end.port),
            database_name=end.database,
            user_name=end.user,
            password=end.password,
            mode="default",
            **more,
        )
        return roma.DatasourceInfo(
            datasource_name=name,
            datasource_type=kind,
            app_id=app,
            content=content,
            description=f"the {name}",
        )

    def datasources(self):
        source = self.datasource("shop 店", "MYSQL", self.source_app, self.source, mysql_timeout=10)
        target = self.datasource("copy", "POSTGRESQL", self.target_app, self.target)
        made = {}
        for body in (source, target):
            answer = self.call("CreateDatasourceInfo", shapes.DATASOURCE, 201, body=body)
            self.same("name", answer.datasource_name, body.datasource_name)
            self.same("type", answer.datasource_type, body.datasource_type)
            self.same("app_id", answer.app_id, body.app_id)
            self.same("description", answer.description, body.description)
            self.same("instance", answer.instance_id, self.config["instance_id"])
            self.check(answer.update_time >= answer.create_time, "changed before it was made")
            self.check(abs(answer.create_time / 1000 - time.time()) < 60, "create_time is not now")
            for field in ("host", "port", "database_name", "user_name", "mode", "mysql_timeout"):
                found = getattr(answer.content, field)
                self.same(f"content.{field}", found, getattr(body.content, field))
            self.check(body.content.password not in self.raw.text, "the password is in the answer")
            made[body.datasource_type] = answer
        self.s, self.t = made["MYSQL"].datasource_id, made["POSTGRESQL"].datasource_id
        self.same("app_name", made["MYSQL"].app_name, "source")
        self.refused("CreateDatasourceInfo", 400, "FDI.3033", "datasource_name", body=source)
        oracle = self.datasource("other", "ORACLE", self.source_app, self.source)
        other = self.call("CreateDatasourceInfo", shapes.DATASOURCE, 201, body=oracle).datasource_id
        self.refused("StartTestDatasource", 400, "FDI.3016", "not supported", datasource_id=other)
        self.call("DeleteDatasourceInfoById", None, 204, datasource_id=other)
        shown = self.call("ShowDataourceDetail", shapes.DATASOURCE, datasource_id=self.s)
        self.same("the data source shown", shown.to_dict(), made["MYSQL"].to_dict())
        source.datasource_name, source.description = "shop", "now 2"
        changed = self.call(
            "UpdateDatasourceInfo", shapes.DATASOURCE, datasource_id=self.s, body=source
        )
        found = (changed.datasource_id, changed.datasource_name, changed.description)
        self.same("the data source changed", found, (self.s, "shop", "now 2"))
        self.same("create_time", changed.create_time, shown.create_time)
        self.check(changed.update_time >= shown.update_time, "update_time went back")
        for query, wanted in (
            ({}, ["shop", "copy"]),
            ({"datasource_type": "MYSQL"}, ["shop"]),
            ({"name": "op"}, ["shop", "copy"]),
            ({"name": "cop"}, ["copy"]),
            ({"app_id": self.target_app}, ["copy"]),
            ({"custom_plugin_id": "none"}, []),
            ({"sort_field": "CREATED_DATE", "sort_type": "ASC"}, ["shop", "copy"]),
            ({"sort_field": "CREATED_DATE", "sort_type": "DESC"}, ["copy", "shop"]),
        ):
            listed = self.call("ListDatasources", shapes.DATASOURCES, **query)
            names = [entity.datasource_name for entity in listed.entities]
            if "sort_field" not in query:
                names, wanted = sorted(names), sorted(wanted)
            self.same(f"data sources {query}", names, wanted)
            self.same("total, size", (listed.total, listed.size), (len(wanted), len(wanted)))
        page = self.call("ListDatasources", shapes.DATASOURCES, offset=-3, limit=1)
        self.same("size, total of a page", (page.size, page.total), (1, 2))
        self.refused("DeleteRomaApp", 400, "ROMA.00013000", app_id=self.source_app)

    def looks(self):
        listed = self.call(
            "ListDatasourceTables", shapes.TABLES, datasource_id=self.s, position="SOURCE"
        )
        self.same("tables", sorted(listed.tables), ["shop.account", "shop.entry"])
        listed = self.call(
            "ListDatasourceTables",
            shapes.TABLES,
            datasource_id=self.t,
            position="TARGET",
            filter="ntr",
        )
        self.same("tables filtered", listed.tables, ["public.entry"])
        for datasource, position, table in (
            (self.s, "SOURCE", "shop.entry"),
            (self.t, "TARGET", "public.entry"),
        ):
            listed = self.call(
                "ListDatasourceColumns",
                shapes.COLUMNS,
                datasource_id=datasource,
                position=position,
                table_name=table,
            )
            names = [column.field_name for column in listed.columns]
            self.same("columns", names, ["id", "account", "ratio", "note"])
            found = {
                c.field_name: (c.primary, c.null_able, c.unique, c.decimal_digits)
                for c in listed.columns
            }
            self.same("key column", found["id"][:2], ("1", "0"))
            self.same("decimal column", found["ratio"], ("0", "1", "0", "3"))
            self.same("text column", found["note"], ("0", "1", "0", None))
            self.check(not any(c.is_partition for c in listed.columns), "is_partition")
        for datasource in (self.s, self.t):
            self.call("StartTestDatasource", shapes.RESULT, datasource_id=datasource)
        other = self.datasource("shop", "MYSQL", self.source_app, self.source)
        self.call("StartTestDatasource", shapes.RESULT, datasource_id=self.s, body=other)
        other.content.password = "wrong"
        self.refused("StartTestDatasource", 400, "FDI.3016", datasource_id=self.s, body=other)

    def init(self, **fields):
        body = roma.MultiTaskInitBody(
            source_datasource_id=self.s, target_datasource_id=self.t, **fields
        )
        answer = self.call("InstallMultiTasks", shapes.INIT, body=body)
        self.same("elements of the init answer", len(answer.body), 1)
        one = answer.body[0]
        ids = (one.source_datasource_id, one.source_ds_id, one.target_datasource_id, one.target_ds_id)
        self.same("data sources", ids, (self.s, self.s, self.t, self.t))
        self.same("apps", (one.source_app_id, one.target_app_id), (self.source_app, self.target_app))
        names = (one.source_datasource_name, one.target_datasource_name)
        self.same("names of the data sources", names, ("shop", "copy"))
        types = (one.source_datasource_type, one.target_datasource_type)
        self.same("types of the data sources", types, ("MYSQL", "POSTGRESQL"))
        return one

    def drafts(self):
        empty = self.init(auto_mapping=False, ext_info=roma.MultiTaskInitBodyExtInfo("1234567890"))
        self.same("mappings", (empty.mappings, empty.mappings_total_count), ([], 0))
        self.same("server id", empty.ext_info.server_id, "1234567890")
        full = self.init(auto_mapping=True)
        self.same("mappings", (len(full.mappings), full.mappings_total_count), (2, 2))
        for mapping in full.mappings:
            self.same("status, percent", (mapping.status, mapping.mapping_percent), ("AUTO", 100))
            pairs = [(pair.source_column, pair.target_column) for pair in mapping.mapping]
            columns = [column.field_name for column in mapping.source_columns]
            self.same("pairs of columns", pairs, [(name, name) for name in columns])
        tables = sorted((m.source_table, m.target_table) for m in full.mappings)
        wanted = [("shop.account", "public.account"), ("shop.entry", "public.entry")]
        self.same("tables", tables, wanted)
        # A draft is no task yet.
        self.same("tasks", self.call("ListTasks", shapes.TASKS).total, 0)
        self.one, self.two = full.task_id, empty.task_id

    def create(self):
        body = roma.MultiTaskRequestBody(
            task_name="first.task_1",
            task_id=self.one,
            task_type="REALTIME",
            description="d" * 1024,
            task_tag="tag_1-a",
            operation_types=ALL,
            source_app_id=self.source_app,
            target_app_id=self.target_app,
        )
        answer = self.call("CreateMultiTasks", shapes.TASK_ID, body=body)
        self.same("task_id", answer.task_id, self.one)
        body = roma.MultiTaskRequestBody(
            task_name="second", task_id=self.two, operation_types=["UPDATE"]
        )
        self.same("id", self.call("CreateMultiTasks", shapes.TASK_ID, body=body).task_id, self.two)
        body = roma.MultiTaskRequestBody(task_name="third", operation_types=["INSERT", "DELETE"])
        self.three = self.call("CreateMultiTasks", shapes.TASK_ID, body=body).task_id
        self.refused("CreateMultiTasks", 400, "FDI.3033", "task_name", body=body)
        unknown = roma.MultiTaskRequestBody("fourth", NOWHERE, operation_types=ALL)
        self.refused("CreateMultiTasks", 404, "FDI.3081", body=unknown)
        empty = roma.MultiTaskRequestBody(task_name="fifth", operation_types=[])
        self.refused("CreateMultiTasks", 400, "FDI.3033", "operation_types", body=empty)
        missing = roma.MultiTaskRequestBody(operation_types=ALL)
        self.refused("CreateMultiTasks", 400, "FDI.3033", "task_name", body=missing)

    def mapping(self, task, table, **more):
        body = roma.MultiTaskMappingCreateBody(
            source_datasource_id=self.s,
            target_datasource_id=self.t,
            source_table=f"shop.{table}",
            target_table=f"public.{table}",
            **more,
        )
        fields = {"task_id": task, "body": body}
        return self.call("CreateMultiTaskMappings", shapes.MAPPING_ID, **fields).mapping_id

    def map(self):
        listed = self.mappings(self.one)
        self.same("mappings", listed.mappings_total_count, 2)
        entry = next(m for m in listed.mappings if m.source_table == "shop.entry")
        found = [m.source_table for m in self.mappings(self.one, table_name="entry").mappings]
        self.same("mappings filtered", found, ["shop.entry"])
        for query, wanted in (
            ({"limit": 1}, 1),
            ({"limit": 1000, "offset": 1}, 1),
            ({"source_table": "shop.account"}, 1),
            ({"target_table": "public.account"}, 1),
            ({"source_datasource_id": self.s, "target_datasource_id": self.t}, 2),
            ({"source_datasource_id": self.t}, 0),
        ):
            found = len(self.mappings(self.one, **query).mappings)
            self.same(f"mappings {query}", found, wanted)
        fields = {"task_id": self.one, "mapping_id": entry.id}
        gone = self.call("DeleteMultiTaskMapping", shapes.MAPPING_ID, **fields)
        self.same("mapping_id", gone.mapping_id, entry.id)
        self.refused("DeleteMultiTaskMapping", 404, "FDI.3002", **fields)
        pairs = [roma.MappingInfo(source_column=c, target_column=c) for c in ("id", "account", "note")]
        made = self.mapping(self.one, "entry", mapping_columns=pairs)
        listed = self.mappings(self.one, source_table="shop.entry").mappings
        self.same("mappings", [(m.id, m.status) for m in listed], [(made, "MANUAL")])
        found = [(pair.source_column, pair.target_column) for pair in listed[0].mapping]
        self.same("pairs", found, [(p.source_column, p.target_column) for p in pairs])
        self.mapping(self.three, "account")
        self.same("data source from the mapping", self.mappings(self.three).source_ds_id, self.s)
        self.refused("DeleteMultiTaskMapping", 400, "FDI.3037", task_id=self.three, mapping_id=made)
        turned = roma.MultiTaskMappingCreateBody(
            source_datasource_id=self.t,
            target_datasource_id=self.s,
            source_table="public.entry",
            target_table="shop.entry",
        )
        fields = {"task_id": self.three, "body": turned}
        self.refused("CreateMultiTaskMappings", 400, "FDI.3037", "source_datasource_id", **fields)

    def show(self, status):
        answer = self.call("ShowTask", shapes.SHOWN, task_id=self.one)
        task = answer.task
        found = (task.task_id, task.task_name, task.task_type, task.status)
        self.same("the task shown", found, (self.one, "first.task_1", "realtime", status))
        ids = (task.source_datasource_id, task.target_datasource_id)
        self.same("data sources", ids, (self.s, self.t))
        names = (task.source_datasource_name, task.target_datasource_name)
        self.same("names", names, ("shop", "copy"))
        apps = (task.source_app_id, task.target_app_id, task.source_app_name, task.target_app_name)
        self.same("apps", apps, (self.source_app, self.target_app, "source", "target"))
        self.same("project", task.project_id, self.config["project_id"])
        self.same("task_tag", task.task_tag, "tag_1-a")
        json.loads(answer.task_detail)

    def list(self, status, execution):
        """ListTasks with every filter; the first task has this state, the others never ran."""
        for query, wanted in (
            ({}, 3),
            ({"task_id": self.one}, 1),
            ({"task_id": NOWHERE}, 0),
            ({"name": "irst"}, 1),
            ({"name": "st", "status": status}, 1),
            ({"status": 1}, status),
            ({"status": 0}, 3 - status),
            ({"task_type": "realtime"}, 3),
            ({"task_type": "timing"}, 0),
            ({"source_datasource_id": self.s}, 3),
            ({"target_datasource_id": self.t}, 3),
            ({"target_datasource_id": self.s}, 0),
            ({"execute_status": "UNSTARTED"}, 3 if execution == "UNSTARTED" else 2),
            ({"execute_status": "ERROR"}, 0),
            ({"source_app_id": self.source_app}, 3),
            ({"target_app_id": self.target_app}, 3),
            ({"target_app_id": self.source_app}, 0),
            ({"task_tag": "tag_1-a"}, 1),
            ({"sort_field": "CREATED_DATE", "sort_type": "DESC"}, 3),
            ({"sort_type": "ASC"}, 3),
        ):
            listed = self.call("ListTasks", shapes.TASKS, **query)
            found = (listed.total, listed.size, len(listed.entities))
            self.same(f"tasks {query}", found, (wanted, wanted, wanted))
        page = self.call("ListTasks", shapes.TASKS, limit=2, offset=1)
        self.same("total, size of a page", (page.total, page.size), (3, 2))
        one = self.call("ListTasks", shapes.TASKS, task_id=self.one).entities[0]
        found = (one.task_name, one.status, one.execute_status)
        self.same("the first task", found, ("first.task_1", status, execution))
        self.same("apps", (one.source_app_id, one.target_app_id), (self.source_app, self.target_app))
        self.same("created today", str(one.created_date), time.strftime("%Y-%m-%d", time.gmtime()))

    def statistics(self, **wanted):
        answer = self.call("CountTasks", shapes.STATISTICS)
        kinds = ("running", "abnormal", "terminated", "completed")
        found = {kind: getattr(answer.cdc_task_details, f"{kind}_tasks_count") for kind in kinds}
        self.same("statistics", found, {kind: wanted.get(kind, 0) for kind in kinds})
        common = answer.common_task_details.to_dict().values()
        self.check(not any(common), "an ordinary task is counted")

    def monitor(self, status, execution):
        answer = self.call("ListMonitorInfos", shapes.MONITORS, task_name="first")
        self.same("monitored", (answer.total, answer.size), (1, 1))
        one = answer.entities[0]
        found = (one.task_id, one.task_name, one.status, one.execute_status)
        self.same("monitor", found, (self.one, "first.task_1", status, execution))
        names = (one.source_app_name, one.target_app_name)
        self.same("names of the apps", names, ("source", "target"))
        self.same("other spelling", self.monitored(task_name="FIRST"), 0)
        self.same("by state", self.monitored(execute_status=execution, task_name="first"), 1)
        self.same("by another state", self.monitored(execute_status="SUCCESS"), 0)
        self.same("offset 0 is 1", self.monitored(offset=0, limit=2), self.monitored(offset=1, limit=2))
        return one

    def monitored(self, **query):
        return self.call("ListMonitorInfos", shapes.MONITORS, **query).size

    def logs(self, **query):
        return self.call("ListMonitorLog", shapes.LOGS, task_id=self.one, **query)

    def equal(self):
        """Waits until the target's rows are the source's."""
        query = "SELECT id, account, note FROM entry ORDER BY id", "SELECT * FROM account ORDER BY id"
        self.until(
            "source and target are equal",
            lambda: all(self.source.sql(q) == self.target.sql(q) for q in query),
        )

    def run(self):
        self.refused("RunTask", 400, "FDI.3026", task_id=self.two)
        self.refused("StopTask", 400, "FDI.3027", task_id=self.one)
        self.call("RunTask", {}, task_id=self.one)
        self.show("running")
        self.equal()
        self.source.sql("INSERT INTO entry VALUES (NULL, 1, 2, 'streamed'); DELETE FROM entry LIMIT 3")
        self.equal()
        rows = int(self.source.sql("SELECT (SELECT count(*) FROM entry) + (SELECT count(*) FROM account)"))
        log = self.until(
            "all rows are counted",
            lambda: next(iter(e for e in self.logs().entities if e.data_count >= rows), None),
        )
        self.same("execution", (log.execute_status, log.position_status), ("RUNNING", "NORMAL"))
        self.same("end, dirty rows", (log.end_time, log.dirty_data_count), (None, 0))
        self.same("executions", self.logs().total, 1)
        now = int(time.time() * 1000)
        found = self.logs(begin_time=log.start_time - 60000, end_time=now + 60000).size
        self.same("executions of this hour", found, 1)
        self.same("executions to come", self.logs(begin_time=now + 3600000).size, 0)
        self.same("offset, limit", self.logs(offset=1, limit=999999).size, 1)
        self.monitor(1, "RUNNING")
        self.list(1, "RUNNING")
        self.statistics(running=1)

    def while_running(self):
        listed = self.mappings(self.one).mappings[0]
        update = roma.MultiTaskUpdateBody(operation_types=ALL, repulling_snapshot=False)
        mapping = roma.MultiTaskMappingCreateBody(
            source_datasource_id=self.s,
            target_datasource_id=self.t,
            source_table="shop.more",
            target_table="public.more",
        )
        task = {"task_id": self.one}
        self.refused("RunTask", 400, "FDI.3023", **task)
        self.refused("UpdateMultiTasks", 400, "FDI.3023", body=update, **task)
        self.refused("CreateMultiTaskMappings", 400, "FDI.3023", body=mapping, **task)
        self.refused("DeleteMultiTaskMapping", 400, "FDI.3023", mapping_id=listed.id, **task)
        self.refused("ResetMultiTaskOffset", 400, "FDI.3023", **task)
        self.refused("DeleteTask", 400, "FDI.3023", **task)
        answer = self.batch("start", self.one)
        self.same("started again", (answer.success_count, answer.failure_count), (0, 1))
        self.same("code", answer.failure[0].error_code, "FDI.3023")

    def stop(self):
        self.call("StopTask", shapes.message("success"), task_id=self.one)
        self.until(
            "the task has ended",
            lambda: self.logs().entities[0].execute_status == "CANCELLED",
        )
        self.show("stop")
        self.monitor(0, "CANCELLED")
        self.list(0, "CANCELLED")
        self.statistics(terminated=1)
        log = self.logs().entities[0]
        self.same("how it ended", log.position_status, "RUNTIME_CANCEL")
        self.check(log.status in (16, 106, 505), f"the code at the end is {log.status}")
        self.check(log.end_time and log.end_time >= log.start_time, f"end_time {log.end_time}")
        self.refused("StopTask", 400, "FDI.3027", task_id=self.one)

    def again(self):
        """Update, and what the next run does."""
        for repull in (False, True):
            body = roma.MultiTaskUpdateBody("now " + "e" * 10, "tag_1-a", ALL, repull)
            answer = self.call("UpdateMultiTasks", shapes.TASK_ID, task_id=self.one, body=body)
            self.same("task_id", answer.task_id, self.one)
            shown = self.call("ShowTask", shapes.SHOWN, task_id=self.one).task
            self.same("description", shown.description, body.description)
            if repull:
                # A hole in the target is only filled by copying again.
                self.target.sql("DELETE FROM entry WHERE id IN (SELECT id FROM entry LIMIT 9)")
            self.source.sql("INSERT INTO entry VALUES (NULL, 1, 2, 'while it was stopped')")
            self.call("RunTask", {}, task_id=self.one)
            self.equal()
            self.call("StopTask", shapes.message("success"), task_id=self.one)
            self.until("the task ends", lambda: self.logs().entities[0].end_time)
        missing = roma.MultiTaskUpdateBody(operation_types=ALL)
        fields = {"task_id": self.one, "body": missing}
        self.refused("UpdateMultiTasks", 400, "FDI.3033", "repulling_snapshot", **fields)

    def reset(self):
        success = shapes.message("Reset Success")
        self.call("ResetMultiTaskOffset", success, task_id=self.one)
        self.target.sql("DELETE FROM account WHERE id < 4")
        body = roma.MultiTaskResetBody()
        self.call("ResetMultiTaskOffset", success, task_id=self.one, body=body)
        dated = roma.MultiTaskResetBody(date_from=1630052714000)
        self.refused(
            "ResetMultiTaskOffset", 400, "FDI.3033", "date_from", task_id=self.one, body=dated
        )
        self.refused("ResetMultiTaskOffset", 404, "FDI.3081", task_id=NOWHERE)

    def batch(self, action, *tasks):
        items = [roma.TaskBean(task) for task in tasks]
        body = roma.OperateTasksBean(action_id=action, list=items)
        return self.call("BatchStartOrStopTasks", shapes.BATCH, body=body)

    def batches(self):
        answer = self.batch("start", self.one, self.two, NOWHERE)
        self.same("started", (answer.success_count, answer.failure_count), (1, 2))
        one = answer.success[0]
        found = (one.task_id, one.task_name, one.error_code or "", one.error_msg or "")
        self.same("success", found, (self.one, "first.task_1", "", ""))
        failed = {item.task_id: item.error_code for item in answer.failure}
        self.same("failure", set(failed), {self.two, NOWHERE})
        self.check(all(failed.values()), f"codes are {failed}")
        self.equal()
        answer = self.batch("stop", self.one, self.two)
        self.same("stopped", (answer.success_count, answer.failure_count), (1, 1))
        self.until("the task ends", lambda: self.logs().entities[0].end_time)
        empty = roma.OperateTasksBean(action_id="start", list=[])
        self.refused("BatchStartOrStopTasks", 400, "FDI.3150", body=empty)
        many = roma.OperateTasksBean("start", [roma.TaskBean(self.one)] * 11)
        self.refused("BatchStartOrStopTasks", 400, "FDI.3002", body=many)
        nameless = roma.OperateTasksBean("start", [roma.TaskBean("")])
        self.refused("BatchStartOrStopTasks", 400, "FDI.3022", body=nameless)

    def errors(self):
        stranger = self.connect(self.config["ak"], "not-the-key")
        self.refused("ListTasks", 401, "APIGW.0301", "verify aksk signature fail", client=stranger)
        self.check("request_id" in self.raw.json(), "no request_id in the body of a 401")
        stranger = self.connect("UNKNOWNKEY", self.config["sk"])
        self.refused("ListTasks", 401, "APIGW.0301", client=stranger)
        self.refused("ShowTask", 404, "FDI.3081", task_id=NOWHERE)
        self.refused("ShowDataourceDetail", 404, "FDI.3002", datasource_id=NOWHERE)
        self.refused("CheckRomaAppDetails", 404, "ROMA.00110006", app_id=NOWHERE)
        own, self.config["instance_id"] = self.config["instance_id"], "no-such-instance"
        self.refused("ListTasks", 404, "APIG.3030")
        self.config["instance_id"] = own
        self.refused("ShowDispatches", 404, "FDI.3081", task_id=NOWHERE)
        self.refused("ShowDispatches", 404, "FDI.3002", "schedule", task_id=self.one)

    def ordinary(self):
        """A task of one table, with a schedule, run once by hand."""

        def body(name, table):
            detail = {
                "sourceSelectedDatasource": {
                    "sourceTable": "shop.account",
                    "sourceSelectedColumnList": [],
                    "need_inc_migration": False,
                    "querySql": "",
                },
                "targetSelectedDatasource": {"targetTable": table, "targetSelectedColumnList": []},
            }
            task = roma.TaskBasicRequestBody(
                task_name=name,
                task_type="TIMING",
                source_datasource_id=self.s,
                target_datasource_id=self.t,
                task_tag="daily",
            )
            return roma.CreateCommonTaskRequestBody(task=task, task_detail=json.dumps(detail))

        table = "public.account_daily"
        made = self.call("CreateCommonTask", shapes.SHOWN, body=body("daily", "public.other"))
        task = made.task.task_id
        self.same("type and status", (made.task.task_type, made.task.status), ("timing", "stop"))
        changed = self.call("UpdateTask", shapes.SHOWN, task_id=task, body=body("nightly", table))
        self.same("name", changed.task.task_name, "nightly")
        detail = json.loads(changed.task_detail)
        self.same("table", detail["targetSelectedDatasource"]["targetTable"], table)
        composite = {"task_id": self.one, "body": body("first", table)}
        self.refused("UpdateTask", 400, "FDI.3033", "task_id", **composite)
        self.refused("RunTask", 404, "FDI.3083", "scheduled plans", task_id=task)
        cron = roma.TaskDispatch(use_quartz_cron=True, cron="0 30 2 * * ?", remark="every night")
        made = self.call("CreateDispatches", shapes.DISPATCH, task_id=task, body=cron)
        self.refused("CreateDispatches", 400, "FDI.3033", "task_id", task_id=task, body=cron)
        wrong = roma.TaskDispatch(use_quartz_cron=True, cron="every night")
        dispatch = {"task_id": task, "dispatch_id": made.dispatch_id}
        self.refused("UpdateDispatches", 400, "FDI.3033", "cron", body=wrong, **dispatch)
        period = roma.TaskDispatch(period="DAY", dispatch_interval=2, start_datetime=4102444800000)
        made = self.call("UpdateDispatches", shapes.DISPATCH, body=period, **dispatch)
        self.same("period", (made.period, made.dispatch_interval), ("DAY", 2))
        shown = self.call("ShowDispatches", shapes.DISPATCH, task_id=task)
        self.same("schedule", shown.to_dict(), made.to_dict())
        answer = self.batch("start", task)
        self.same("turned on", answer.success_count, 1)
        listed = self.call("ListTasks", shapes.TASKS, task_id=task).entities[0]
        found = (listed.task_type, listed.status, listed.ext_type)
        self.same("listed", found, ("TIMING", 1, None))
        monitors = self.call("ListMonitorInfos", shapes.MONITORS, task_name="nightly").entities
        found = (monitors[0].use_quartz_cron, monitors[0].period, monitors[0].dispatch_interval)
        self.same("schedule in the monitor", found, (False, "DAY", 2))
        counts = self.call("CountTasks", shapes.STATISTICS).common_task_details
        self.same("counted", counts.running_tasks_count, 0)
        self.call("StopTask", shapes.message("success"), task_id=task)
        self.call("DeleteTask", None, 204, task_id=task)

    def delete(self):
        self.refused("DeleteDatasourceInfoById", 400, "FDI.3033", datasource_id=self.s)
        for task in (self.one, self.two, self.three):
            self.call("DeleteTask", None, 204, task_id=task)
            self.refused("ShowTask", 404, "FDI.3081", task_id=task)
        self.same("tasks", self.call("ListTasks", shapes.TASKS).total, 0)
        self.statistics()
        for datasource in (self.s, self.t):
            self.until("its traces are removed", lambda: self.freed(datasource))
            self.refused("ShowDataourceDetail", 404, "FDI.3002", datasource_id=datasource)
        for app in (self.source_app, self.target_app):
            self.call("DeleteRomaApp", None, 204, app_id=app)
            self.refused("CheckRomaAppDetails", 404, "ROMA.00110006", app_id=app)

    def freed(self, datasource):
        """Deletes a data source, which is refused while deleted tasks are tidied up behind."""
        method, request = self.request("DeleteDatasourceInfoById", datasource_id=datasource)
        try:
            found = method(request).status_code
        except ClientRequestException as error:
            return not self.same("refused", error.error_code, "FDI.3033")
        return self.same("DeleteDatasourceInfoById", (found, self.raw.content), (204, b""))

    def live(self):
        self.source.prepare()
        self.target.prepare()
        self.apps()
        self.datasources()
        self.looks()
        self.drafts()
        self.create()
        self.map()
        self.show("stop")
        self.list(0, "UNSTARTED")
        self.statistics()
        self.monitor(0, "UNSTARTED")
        self.same("logs before the first run", self.logs().total, 0)
        self.run()
        self.while_running()
        self.stop()
        self.again()
        self.reset()
        self.batches()
        self.errors()
        self.ordinary()
        self.delete()


def main():
    life = Life(json.load(sys.stdin))
    try:
        life.live()
    except AssertionError as error:
        life.check(False, str(error))
    print(f"{len(life.failures)} wrong", *life.failures, sep="\n  ")
    return 1 if life.failures else 0


if __name__ == "__main__":
    sys.exit(main())
