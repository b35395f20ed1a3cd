"""S3 as it can be on a bad day: a proxy in the machine, in front of the cloud's API, whose mood is in a file.

Usage: s3_proxy.py UPSTREAM PEM MODE. `ok` passes everything on, `slow` after half a second, `denied` answers 403 as S3
does, `away` closes the connection and leaves a file MODE.refused, `drip` gives what was asked for a byte at a time,
`skewed SECONDS` refuses the machine's clock as S3 does whose own is that far ahead, and `throttled` refuses as
Parameter Store does. The mode is read anew for each request.
"""

import http.client
import http.server
import ssl
import sys
import time
from email.utils import formatdate
from pathlib import Path

UPSTREAM, PEM, MODE = sys.argv[1], sys.argv[2], Path(sys.argv[3])
REFUSED = Path(f"{MODE}.refused")
REFUSED.unlink(missing_ok=True)
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
SKEWED = b"""<?xml version="1.0"?><Error><Code>RequestTimeTooSkewed</Code>
<Message>The difference between the request time and the current time is too large.</Message></Error>"""
THROTTLED = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
TRUSTING = ssl._create_unverified_context()


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mode = MODE.read_text().strip()
        if mode == "away":
            self.close_connection = True
            REFUSED.touch()
            return
        if mode == "denied":
            self.reply(403, [("Content-Type", "application/xml")], DENIED)
            return
        if mode.startswith("skewed"):
            date = formatdate(time.time() + float(mode.split()[1]), usegmt=True)
            self.reply(403, [("Content-Type", "application/xml"), ("Date", date)], SKEWED)
            return
        if mode == "throttled":
            self.reply(400, [("Content-Type", "application/x-amz-json-1.1")], THROTTLED)
            return
        if mode == "slow":
            time.sleep(0.5)
        upstream = http.client.HTTPSConnection(UPSTREAM, 443, context=TRUSTING, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in {"connection", "transfer-encoding"}]
        self.reply(answer.status, headers, content, 1 if mode == "drip" else len(content))
        upstream.close()

    def reply(self, status: int, headers: "list[tuple[str, str]]", content: bytes, piece: int = 1 << 20) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for start in range(0, len(content) if self.command != "HEAD" else 0, max(piece, 1)):
            self.wfile.write(content[start : start + piece])
            if piece == 1:
                time.sleep(0.5)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
    setattr(Proxy, f"do_{method}", Proxy.pass_on)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Proxy)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(PEM)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
