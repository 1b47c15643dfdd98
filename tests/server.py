"""A web server on loopback that serves bytes, and fails as it is told to."""
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
        start = int(wanted.removeprefix('bytes=').removesuffix('-')) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *args):
        pass


def status(code: int, **headers: str) -> Failure:
    def answer(handler, content):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace('_', '-'), value)
        handler.send_header('Content-Length', '0')
        handler.end_headers()
        return True
    return answer


def page(handler, content):
    """An error page that says it is fine."""
    body = b'<!DOCTYPE html><html><body>Log in to the wireless network</body></html>'
    handler.send_response(200)
    handler.send_header('Content-Type', 'text/html')
    handler.send_header('Content-Length', str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def truncated(handler, content):
    """Half of the file, said to be all of it."""
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(content) // 2))
    handler.end_headers()
    handler.wfile.write(content[:len(content) // 2])
    return True


def dropped(handler, content):
    """A connection that breaks off after half of what was asked for."""
    start = int(handler.headers.get('Range', 'bytes=0-').removeprefix('bytes=').removesuffix('-'))
    rest = content[start:]
    handler.send_response(206 if start else 200)
    handler.send_header('Content-Length', str(len(rest)))
    handler.end_headers()
    handler.wfile.write(rest[:len(rest) // 2])
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.close()
    return True


def without_ranges(handler, content):
    """The whole file, whatever part was asked for."""
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
    return True
