"""Reads messages (4 bytes of length, big endian, then the message) and prints,
for each, one line of JSON with what Python's email package makes of it."""
import json
import sys
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import compat32, default
from email.utils import parseaddr


def describe(part):
    out = {
        "type": part.get_content_type(),
        "encoding": str(part.get("Content-Transfer-Encoding", "")),
        "disposition": part.get_content_disposition() or "",
        "filename": part.get_filename() or "",
        "name": part.get_param("name") or "" if part.get("Content-Type") else "",
        "cid": str(part.get("Content-ID", "")),
        "defects": [repr(d) for d in part.defects],
    }
    for name, value in part.items():
        for d in getattr(value, "defects", []):
            out["defects"].append("%s: %r" % (name, d))
    if part.is_multipart():
        out["parts"] = [describe(p) for p in part.iter_parts()]
    elif part.get_content_maintype() == "text" and not part.is_attachment():
        out["text"] = part.get_content()
    else:
        out["bytes"] = part.get_payload(decode=True).hex()
    return out


while True:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        break
    raw = sys.stdin.buffer.read(int.from_bytes(head, "big"))
    msg = message_from_bytes(raw, policy=default)
    out = describe(msg)
    out["headers"] = [[k, str(v)] for k, v in msg.items()]
    for field in ("from", "to", "reply-to"):
        if msg[field]:
            # The new parser puts a space between the encoded-words of a display
            # name (https://bugs.python.org/issue35547), so names are read by
            # the old one.
            old = message_from_bytes(raw, policy=compat32)[field]
            name, _ = parseaddr("".join(str(old).splitlines()))
            if any(ord(c) > 127 for c in msg[field].addresses[0].addr_spec):
                name = msg[field].addresses[0].display_name
            out[field] = [[str(make_header(decode_header(name))), a.addr_spec] for a in msg[field].addresses]
    print(json.dumps(out), flush=True)
