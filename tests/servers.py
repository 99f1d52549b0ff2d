"""Real servers on loopback for a DVC remote: S3 (two), Google Cloud, Azure, SSH, WebDAV and HTTP.

Each is a context: it starts the server with files below `folder`, waits until it answers, and ends
it.
"""

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from azure.storage.blob import BlobServiceClient

SYSTEM = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
DAV_MODULE = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")
SEAWEED = """
-ip=127.0.0.1 -ip.bind=127.0.0.1 -dir=data -master.telemetry=false -master.volumeSizeLimitMB=64
-volume.max=20 -s3 -s3.config=keys.json -s3.iam=false -iam=false -s3.port.iceberg=0 -s3.port.lance=0
-master.port={} -master.port.grpc={} -volume.port={} -volume.port.grpc={} -filer.port={}
-filer.port.grpc={} -s3.port={} -s3.port.grpc={} -filer.localSocket={}
"""
NGINX = """
load_module {module};
user {user};
daemon off;
worker_processes 1;
error_log stderr;
pid {folder}/pid;
events {{}}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp;
  fastcgi_temp_path {folder}/tmp; uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  server {{
    listen 127.0.0.1:{dav};
    root {folder}/files;
    auth_basic files; auth_basic_user_file {folder}/users;
    dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS;
    create_full_put_path on;
  }}
  server {{ listen 127.0.0.1:{http}; root {folder}/files; }}
}}
"""
SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    names: Mapping[str, str]
    """What stands for the names in docs/share.md."""
    stranger: Mapping[str, str] | None
    """What stands for the names with a wrong key; None where the server takes any."""
    replace: Callable[[str, bytes], None]
    """Writes other bytes into the object at a path in the remote, behind the server's back."""
    port: int


def program(name: str) -> str:
    found = shutil.which(name, path=SYSTEM)
    if found is None:
        pytest.skip(f"needs {name}: .ci/run installs the packages with the servers")
    return found


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]


@contextmanager
def running(
    command: list[str], folder: Path, port: int, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server in `folder` until the end of the context."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"HOME": str(folder)} | (environment or {}),
            stdout=output,
            stderr=output,
        )
    try:
        for _ in range(120):
            assert process.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.25)
            else:
                break
        else:
            raise AssertionError(log.read_text())
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def in_folder(folder: Path) -> Callable[[str, bytes], None]:
    def replace(path: str, content: bytes) -> None:
        file = folder / path
        assert file.read_bytes() != content
        file.chmod(0o644)
        file.write_bytes(content)

    return replace


def s3_names(port: int) -> dict[str, str]:
    return {
        "https://s3.example.com": f"http://127.0.0.1:{port}",
        "KEY": "writer",
        "SECRET": "writers-secret",
    }


@contextmanager
def nanio(folder: Path) -> Iterator[Server]:
    """An S3 server in Python, whose objects are files."""
    (folder / "data/my-bucket").mkdir(parents=True)
    [port] = free_ports(1)
    names = s3_names(port)
    with running(*nanio_command(folder, port)):
        objects = in_folder(folder / "data/my-bucket/classifiers")
        yield Server(names, names | {"SECRET": "another"}, objects, port)


def nanio_command(folder: Path, port: int) -> tuple[list[str], Path, int, dict[str, str]]:
    """Returns the arguments of `running` for nanio with its buckets in `folder/data`."""
    names = s3_names(port)
    command = [program("nanio"), "serve", "--data-dir", "data", "--host", "127.0.0.1"]
    keys = {"NANIO_ACCESS_KEY": names["KEY"], "NANIO_SECRET_KEY": names["SECRET"]}
    return [*command, "--port", str(port)], folder, port, keys


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Server]:
    """SeaweedFS, a distributed store, in one process. Its stranger has a key to read with."""
    (folder / "data").mkdir()
    ports = free_ports(8)
    names = s3_names(ports[6])
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": f"{name}s-secret"}],
            "actions": actions,
        }
        for name, actions in (("writer", ["Admin"]), ("reader", ["Read", "List"]))
    ]
    (folder / "keys.json").write_text(json.dumps({"identities": identities}))
    # A socket's path has 107 bytes at most.
    link = Path(f"/tmp/seaweedfs-{ports[0]}.sock")  # noqa: S108
    arguments = SEAWEED.format(*ports, link).split()
    buckets = f"http://127.0.0.1:{ports[4]}/buckets/my-bucket/"

    def replace(path: str, content: bytes) -> None:
        put(f"{buckets}classifiers/{path}", content)

    def put(url: str, content: bytes) -> None:
        urlopen(Request(url, content, method="PUT"), timeout=10).close()

    try:
        with running([program("weed"), "server", *arguments], folder, ports[6]):
            for left in reversed(range(60)):  # it answers before it has room for files
                try:
                    put(f"{buckets}first", b"makes the bucket")
                    break
                except OSError:
                    assert left, (folder / "log").read_text()
                    time.sleep(0.5)
            reader = names | {"KEY": "reader", "SECRET": "readers-secret"}
            yield Server(names, reader, replace, ports[6])
    finally:
        for port in ports:
            for left_behind in link.parent.glob(f"seaweedfs-*{port}.sock"):
                left_behind.unlink()


@contextmanager
def google(folder: Path) -> Iterator[Server]:
    """An emulator of Google Cloud Storage in Python, whose objects are files. It checks no key."""
    [port] = free_ports(1)
    command = [program("gcp-storage-emulator"), "--data-dir", str(folder / "data"), "start"]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--default-bucket", "my-bucket"]
    names = {
        "credentialpath ~/storage-key.json": "allow_anonymous_login true\n"
        f"dvc remote modify --local storage endpointurl http://127.0.0.1:{port}"
    }
    with running(command + arguments, folder, port), pytest.MonkeyPatch.context() as patch:
        # Else gcsfs asks for a kind of bucket that the emulator does not know, for a minute.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        objects = in_folder(folder / "data/.cloudstorage/my-bucket/classifiers")
        yield Server(names, None, objects, port)


@contextmanager
def azurite(folder: Path) -> Iterator[Server]:
    """Microsoft's own emulator of Azure Blob Storage."""
    command = [program("azurite-blob"), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    [port] = free_ports(1)
    key, another = (b64encode(text).decode() for text in (b"writers-secret", b"another"))
    address = f"BlobEndpoint=http://127.0.0.1:{port}/my-account"
    settings = f"DefaultEndpointsProtocol=http;AccountName=my-account;AccountKey=SECRET;{address}"
    names = {"account_key KEY": f"connection_string '{settings}'", "SECRET": key}
    arguments = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    with running(command + arguments, folder, port, {"AZURITE_ACCOUNTS": f"my-account:{key}"}):
        client = BlobServiceClient.from_connection_string(settings.replace("SECRET", key))
        container = client.create_container("my-container")

        def replace(path: str, content: bytes) -> None:
            container.upload_blob(f"classifiers/{path}", content, overwrite=True)

        yield Server(names, names | {"SECRET": another}, replace, port)


@contextmanager
def ssh(folder: Path) -> Iterator[Server]:
    """OpenSSH's server. A stranger has a key that it does not know."""
    sshd = program("sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for key in ("host", "user", "stranger"):
        keygen = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key]
        subprocess.run(keygen, cwd=folder, check=True)
    [port] = free_ports(1)
    (folder / "config").write_text(SSHD.format(port=port, folder=folder))
    names = {
        "example.com/srv": f"127.0.0.1:{port}{folder}/srv",
        "localhost:2222/srv": f"localhost:2222{folder}/srv",
        "alice": getpass.getuser(),
        "~/.ssh/id_ed25519": str(folder / "user"),
    }
    stranger = names | {"~/.ssh/id_ed25519": str(folder / "stranger")}
    with running([sshd, "-D", "-e", "-f", str(folder / "config")], folder, port):
        yield Server(names, stranger, in_folder(folder / "srv/classifiers"), port)


@contextmanager
def nginx(folder: Path) -> Iterator[Server]:
    """Nginx, with WebDAV for who has a password, and plain HTTP for everyone."""
    command = [program("nginx"), "-c", str(folder / "config")]
    if not DAV_MODULE.exists():
        pytest.skip(f"needs {DAV_MODULE}: apt-get install libnginx-mod-http-dav-ext")
    (folder / "files/classifiers").mkdir(parents=True)
    (folder / "tmp").mkdir()
    dav, http = free_ports(2)
    user = getpass.getuser()
    config = NGINX.format(module=DAV_MODULE, user=user, folder=folder, dav=dav, http=http)
    (folder / "config").write_text(config)
    (folder / "users").write_text("alice:{PLAIN}alices-secret\n")
    names = {
        "webdavs://dav.example.com": f"webdav://127.0.0.1:{dav}",
        "https://files.example.com": f"http://127.0.0.1:{http}",
        "PASSWORD": "alices-secret",
    }
    with running(command, folder, dav):
        objects = in_folder(folder / "files/classifiers")
        yield Server(names, names | {"PASSWORD": "another"}, objects, dav)


SERVERS = {
    "nanio": nanio,
    "seaweedfs": seaweedfs,
    "google": google,
    "azurite": azurite,
    "ssh": ssh,
    "webdav": nginx,
}
