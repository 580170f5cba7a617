"""Label the images of a folder in a browser: strokes in, labels out, training at a button."""

import argparse
import threading
import webbrowser
from pathlib import Path

from spml.cli.parser import Parser
from spml.errors import UserError


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="with images; gets strokes, labels, lists beside them")
    parser.add_argument("--port", type=int, default=8008, help="0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", help="another address than this machine's own needs --token")
    parser.add_argument("--token", help="a secret word, without which nobody gets in")
    parser.add_argument(
        "--source", default="package:efficientnet_lite0", help="of the features: package:<name>, or a trained snapshot"
    )
    parser.add_argument("--classes", help="names by commas, or a file of them, to begin with")
    parser.add_argument("--no-browser", action="store_true", help="open no page, only print its address")


def main(args: argparse.Namespace) -> None:
    try:
        import uvicorn

        from spml.app.events import Hub
        from spml.app.guard import check_address
        from spml.app.server import build_app
        from spml.app.studio import Studio
    except ImportError as error:
        raise UserError(f"spml studio needs the extra `studio`: pip install -e .[studio] ({error})") from error
    from spml.inference.spread import check_source

    check_address(args.host, args.token)
    check_source(args.source)
    hub = Hub()
    studio = Studio(args.folder, args.source, _names(args.classes), hub.publish)
    try:
        socket = _listen(args.host, args.port)
        address = _address(args.host, socket.getsockname()[1], args.token)
        print(f"studio of {studio.images.folder}: {address}  (Ctrl-C ends it)", flush=True)
        if not args.no_browser:
            threading.Timer(0.5, webbrowser.open, (address,)).start()
        config = uvicorn.Config(
            build_app(studio, hub, args.host, args.token),
            log_level="warning",
            timeout_graceful_shutdown=2,
            server_header=False,
            limit_concurrency=256,
        )
        uvicorn.Server(config).run(sockets=[socket])
    finally:
        studio.close()


def _listen(host: str, port: int):  # noqa: ANN202
    import socket

    if not 0 <= port < 65536:
        raise UserError(f"--port: expected 0 to 65535, got {port}")
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # by which asyncio knows to send at once
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # who comes before the server is ready waits
    except OSError as error:
        listener.close()
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}; --port 0 takes a free one") from error
    return listener


def _address(host: str, port: int, token: str | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _names(classes: str | None) -> list[str]:
    """Names by commas, or of a file."""
    if not classes:
        return []
    if Path(classes).is_file():
        from spml.classes import read_class_names

        return list(read_class_names(classes))
    return [name.strip() for name in classes.split(",") if name.strip()]
