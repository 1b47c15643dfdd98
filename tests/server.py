"""A web server on loopback that serves bytes, and fails on request."""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Dict, List, Optional

# what a failure does: answers and returns True, or returns False to let the file be served
Failure = Callable[[BaseHTTPRequestHandler, bytes], bool]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files: Dict[str, bytes] = {}
        self.requests: List[Optional[str]] = []  # Range headers of what was asked for
        self.failures: List[Failure] = []  # one for each request, in turn
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path)
        wanted = self.headers['Range']
        self.server.requests.append(wanted)
        if self.server.failures and self.server.failures.pop(0)(self, content or b''):
            return
        if content is None:
            self.send_error(404)
            return
        if wanted and first_byte(self) >= len(content):
            self.send_error(416)
            return
        send(self, content)

    def log_message(self, *args):
        pass


def first_byte(handler) -> int:
    """Where the range starts that is asked for."""
    return int((handler.headers['Range'] or 'bytes=0-').removeprefix('bytes=').removesuffix('-'))


def send(handler, content: bytes, share: float = 1.) -> None:
    """Answer with the file or the range that is asked for, and stop after a share of it."""
    rest = content[first_byte(handler):]
    handler.send_response(206 if handler.headers['Range'] else 200)
    handler.send_header('Content-Length', str(len(rest)))
    handler.end_headers()
    handler.wfile.write(rest[:int(len(rest) * share)])
    handler.wfile.flush()


def status(code: int, **headers: str) -> Failure:
    def answer(handler, content):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace('_', '-'), value)
        handler.send_header('Content-Length', '0')
        handler.end_headers()
        return True
    return answer


def whole(handler, content: bytes, kind: str = 'application/octet-stream') -> bool:
    """Answer with all of this, even if a part was asked for."""
    handler.send_response(200)
    handler.send_header('Content-Type', kind)
    handler.send_header('Content-Length', str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
    return True


def page(handler, content):
    """An error page that says it is fine."""
    return whole(handler, b'<!DOCTYPE html><html><body>Log in to the wireless network</body></html>', 'text/html')


def truncated(handler, content):
    """Half of the file, said to be all of it."""
    return whole(handler, content[:len(content) // 2])


def dropped(handler, content):
    """A connection that breaks off after half of what was asked for."""
    send(handler, content, share=0.5)
    handler.close_connection = True
    handler.connection.close()
    return True
