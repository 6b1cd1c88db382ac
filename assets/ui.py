"""``josh ui``: Dagster's UI and daemon on a home, in processes of their own that end with this one."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import httpx2

from assets.guard import TOKEN, loopback, new_token
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.locks import alone
from josh_pipeline.stages.registry import open_home

STOP_SECONDS = 15.0
"""Dagster's processes get this long to end by themselves."""
POLL_SECONDS = 0.3
ANSWER_SECONDS = 30.0
"""A server that has just started, on a busy machine, takes long for its first page."""


def command(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    home = open_home(options.home)
    refuse_taken(options.host, options.port)
    # Imported where it is used: Dagster takes seconds.
    from assets.launch import prepare_instance

    with alone(home.root / "ui.lock", f"Another josh ui serves {home.root}: use it, or stop it first."):
        home.warehouse()
        workspace = prepare_instance(home)
        print(f"Starting Dagster on {home.root}", flush=True)
        url = f"http://{options.host}:{options.port}"
        return serve(dagster_dev(options.host, options.port, workspace), url, *admission(options.host))


def admission(host: str) -> tuple[str, ...]:
    """Return the token without which nobody is let in who comes over a network; none where nobody can."""
    if loopback(host):
        return ()
    print(
        f"{host} is reached from other machines: whoever has the token below may start runs with your keys, and what "
        "is sent can be read on the way; safer is --host 127.0.0.1 over ssh -L.",
        file=sys.stderr,
        flush=True,
    )
    return (new_token(),)


def refuse_taken(host: str, port: int) -> None:
    """Raise where nothing can be served on a port."""
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as fault:
        # Python lengthens strerror by the address, which the sentence names already.
        said = str(fault.strerror) if isinstance(fault, OSError) else "no such port"
        reason, _, _ = said.partition(" (while attempting")
        raise UserError(f"Port {port} on {host} cannot be used ({reason}): choose another --port or --host.") from None


def dagster_dev(host: str, port: int, workspace: Path) -> list[str]:
    """Return the command: ``dagster dev`` with the pages of trees and reports beside Dagster's.

    It logs what goes wrong alone.
    """
    served = ["-m", "assets.serve", "dev", "-w", str(workspace), "-h", host, "-p", str(port)]
    return [sys.executable, *served, "--log-level", "warning"]


def serve(arguments: list[str], url: str, token: str = "") -> int:
    """Run a command in a process group of its own; end the whole group with this process.

    Args:
        url: printed once the command's server answers there.
        token: asked for by the server; none where empty.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # SIGINT too: importing Dagster replaces its handler with one that waits for a step to end.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    # Dagster ignores the signals that its parent ignored, as a shell's background jobs do.
    # A gql.py in the folder where somebody starts this is not the package of that name.
    environment = os.environ | {"PYTHONSAFEPATH": "1", TOKEN: token}
    child = subprocess.Popen(arguments, env=environment, start_new_session=True, preexec_fn=default_signals)
    try:
        if answers(child, url):
            print(f"Open {url}{f'/?token={token}' if token else ''}  (Ctrl-C stops it)", flush=True)
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        end_group(child)


def answers(child: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until a server replies; False where its process ended before."""
    while child.poll() is None:
        try:
            # A proxy of the environment does not reach this machine's own ports.
            httpx2.get(url, trust_env=False, timeout=ANSWER_SECONDS)
            return True
        except httpx2.TransportError:
            time.sleep(POLL_SECONDS)
    return False


def default_signals() -> None:
    """Let SIGINT and SIGTERM end the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ask a process group to end, and insist where it does not."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, signum)
            child.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
