#!/usr/bin/env python3
"""Verifies a proof of `intcred audit prove`: verify_audit_proof.py PROOF PUBLIC_KEY. docs/audit.md has the format."""
import hashlib
import json
import sys
from datetime import datetime, timedelta, timezone

# Ed25519 (RFC 8032), with affine points.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

def decode(data):
    number = int.from_bytes(data, "little")
    y = number % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0, "not a point of the curve"
    return (x if x % 2 == number >> 255 else -x % P), y

def add(a, b):
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P)

def multiply(point, number):
    result = (0, 1)
    while number:
        if number & 1:
            result = add(result, point)
        point, number = add(point, point), number >> 1
    return result

def is_signed(key, message, signature):
    commitment, scalar = signature[:32], int.from_bytes(signature[32:], "little")
    challenge = int.from_bytes(hashlib.sha512(commitment + key + message).digest(), "little") % L
    base = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    return scalar < L and multiply(base, scalar) == add(decode(commitment), multiply(decode(key), challenge))

def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def leaf(row):
    since = datetime.fromisoformat(row["createdAt"].replace("Z", "+00:00")) - datetime(2000, 1, 1, tzinfo=timezone.utc)
    texts = ["orgSlug", "actor", "sessionRole", "actingRole", "action", "targetType", "targetId"]
    fields = [row["id"].to_bytes(8, "big", signed=True), *(row[name].encode() for name in texts),
              b"\x01" + row["metadata"].encode(), (since // timedelta(microseconds=1)).to_bytes(8, "big", signed=True)]
    digest = sha256(*(len(field).to_bytes(4, "big") + field for field in fields))
    return sha256(b"\x00", digest, bytes.fromhex(row["mac"]))

def root(node, index, last, path):
    for beside in map(bytes.fromhex, path):
        assert last, "the path is too long"
        if index % 2 or index == last:
            node = sha256(b"\x01", beside, node)
            while index % 2 == 0 and index:
                index, last = index // 2, last // 2
        else:
            node = sha256(b"\x01", node, beside)
        index, last = index // 2, last // 2
    assert last == 0, "the path is too short"
    return node

proof = json.load(open(sys.argv[1]))
label, _, number, _, _, rows, _, _, expected, _, _, key = proof["header"].splitlines()
assert label == "integration_credentials audit block v1", "another form"
assert key == sys.argv[2], "another key has signed the block"
assert is_signed(bytes.fromhex(key), proof["header"].encode(), bytes.fromhex(proof["signature"])), "not as it was signed"
assert 0 <= proof["index"] < int(rows), "no such leaf"
assert root(leaf(proof["row"]), proof["index"], int(rows) - 1, proof["path"]).hex() == expected, "not in the block"
print(f"row {proof['row']['id']} is in block {number}")
