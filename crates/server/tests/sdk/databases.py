"""The two databases, through their command-line clients, so that no driver is needed."""

import os
import subprocess


class End:
    def __init__(self, config):
        self.host, self.port = config["host"], config["port"]
        self.user, self.password = config["user"], config["password"]
        self.database = config["database"]

    def run(self, command, variable, sql):
        environment = {**os.environ, variable: self.password}
        done = subprocess.run(
            command, input=sql, env=environment, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise AssertionError(f"{command[0]}: {done.stderr}")
        return done.stdout


class Source(End):
    def sql(self, sql):
        command = [
            "mariadb",
            "--no-defaults",
            "--protocol=tcp",
            f"--host={self.host}",
            f"--port={self.port}",
            f"--user={self.user}",
            "--batch",
            "--skip-column-names",
            self.database,
        ]
        return self.run(command, "MYSQL_PWD", sql)

    def prepare(self):
        self.sql(
            "CREATE TABLE account (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);"
            "CREATE TABLE entry (id BIGINT AUTO_INCREMENT PRIMARY KEY, account INT NOT NULL,"
            " ratio DECIMAL(9,3), note VARCHAR(100));"
            "INSERT INTO account SELECT seq, concat('number ', seq) FROM seq_1_to_100;"
            "INSERT INTO entry SELECT NULL, 1 + seq % 100, seq / 7, concat('note ', seq)"
            " FROM seq_1_to_1000;"
        )


class Target(End):
    def sql(self, sql):
        command = [
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--field-separator=\t",
            "--set=ON_ERROR_STOP=1",
            f"--host={self.host}",
            f"--port={self.port}",
            f"--username={self.user}",
            "--no-password",
            f"--dbname={self.database}",
        ]
        return self.run(command, "PGPASSWORD", sql)

    def prepare(self):
        self.sql(
            "CREATE TABLE account (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);"
            "CREATE TABLE entry (id BIGINT PRIMARY KEY, account INT NOT NULL,"
            " ratio NUMERIC(9,3), note VARCHAR(100));"
        )
