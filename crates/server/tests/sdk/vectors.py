"""The three signature vectors of the contract, computed by the SDK's own signer.

Usage: vectors.py        prints what differs and ends with 1, or prints the vectors and ends with 0
"""

import hashlib
import sys

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

AK = "AKTESTROMA0000000001"
SK = "SKtestSecretKey0000000000000000000000001"
PROJECT = "c53626012ba84727b938ca8bf03108ef"
BASE = f"/v2/{PROJECT}/fdi/instances/fae7ff6c-8e07-4cf8-9e67-589cab2f017c"
BODY_TYPE = "application/json;charset=utf-8"

# method, path, query, more headers, body, SHA-256 of the canonical request, signature
VECTORS = [
    (
        "GET",
        f"{BASE}/tasks",
        [("limit", 10), ("name", "cdc test/中"), ("offset", 0)],
        {"Content-Type": "application/json"},
        None,
        "4f8111dbf523e04773d115ebf6a3f537b74044557f5d0a399c876f98f24c7d89",
        "1caca84d6cdc3a30634548c310836343dd145507dae4efbf7015e9382e523ffd",
    ),
    (
        "POST",
        f"{BASE}/multi-tasks",
        [],
        {"Content-Type": BODY_TYPE},
        '{"task_name": "cdctest1", "operation_types": ["INSERT", "UPDATE", "DELETE"]}',
        "35e48aa1e9fe24b64be3766140e6e20134c39b44aa8a07bb66c703755afc690e",
        "7e6d112da9ec230fc024a229c1656e7bddb66e2ff651cb64a6909e8f5c9228db",
    ),
    (
        "POST",
        f"{BASE}/multi-tasks/15366328208d4d77b76532fe9f4006a6/reset",
        [],
        {"Content-Type": BODY_TYPE, "X-Security-Token": "SECTOKEN"},
        "{}",
        "f94f339c562e29c349c99234a649caf0cf9c8e015ae0716b40e541a4e1708600",
        "924148b7909c981926b9072f1685f62edae9215933ba97c08117151403d17b65",
    ),
]


class Recording(Signer):
    """The SDK's signer, which also keeps the canonical request it made."""

    canonical = ""

    def _process_canonical_request(self, request, signed_headers):
        self.canonical = super()._process_canonical_request(request, signed_headers)
        return self.canonical


def main():
    signer = Recording(BasicCredentials(AK, SK, PROJECT))
    wrong = 0
    for number, (method, path, query, more, body, digest, signature) in enumerate(VECTORS, 1):
        headers = {
            "Host": "127.0.0.1:8080",
            "User-Agent": "conformance/1.0",
            "X-Project-Id": PROJECT,
            "X-Sdk-Date": "20260102T030405Z",
            **more,
        }
        request = SdkRequest(
            method=method,
            schema="http",
            host="127.0.0.1:8080",
            resource_path=path,
            query_params=query,
            header_params=headers,
            body=body,
        )
        authorization = signer.sign(request).header_params["Authorization"]
        found_digest = hashlib.sha256(signer.canonical.encode()).hexdigest()
        found = authorization.rsplit("Signature=", 1)[1]
        print(f"{number} {found_digest} {found}")
        if (found_digest, found) != (digest, signature):
            print(f"{number} differs from the contract: {digest} {signature}\n{signer.canonical}")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
