"""Several hosts on this machine: network namespaces, joined by tests/support/tun_relay alone.

All of it lives in namespaces of the test's own (network, mounts, processes): the kernel takes everything away when
the test ends, however it ends, and nothing here is seen outside. Needs root, /dev/net/tun, iproute2 and nftables.
"""

import concurrent.futures
import ctypes
import json
import os
import shutil
import subprocess
import sys

from load import support_program

SKIPPED = 77  # CTest's SKIP_RETURN_CODE here
DEVICE = "tun0"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def what_is_missing():
    """Why this machine cannot have such hosts; empty where it can."""
    if os.geteuid() != 0:
        return "this needs root: network namespaces and TUN devices"
    for tool in ("unshare", "ip", "nft"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (util-linux, iproute2, nftables)"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    try:
        run("unshare", *ISOLATION, "sh", "-ec", f"{PREPARATION}; ip netns add probe; "
            f"ip -n probe tuntap add {DEVICE} mode tun; ip netns exec probe nft add table inet probe")
    except OSError as error:
        return f"namespaces, TUN or nftables do not work here: {error}"
    return ""


ISOLATION = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# `ip netns` keeps its names under /run.
PREPARATION = "mount -t tmpfs none /run; mkdir -p /run/netns; ip link set lo up"


def isolate():
    """Goes on in namespaces of its own, or ends this process, saying why it was skipped."""
    if os.environ.get("MIRRORSD_TEST_ISOLATED") == "yes":
        return
    missing = what_is_missing()
    if missing:
        print(f"SKIPPED: {missing}", flush=True)
        sys.exit(SKIPPED)
    os.environ["MIRRORSD_TEST_ISOLATED"] = "yes"
    script = [os.path.abspath(sys.argv[0]), *sys.argv[1:]]
    os.execvp("unshare", ["unshare", *ISOLATION, "sh", "-ec", f'{PREPARATION}; exec "$@"', "sh",
                          sys.executable, *script])


class Host:
    def __init__(self, name, address):
        self.name, self.address = name, address
        self.prefix = ("ip", "netns", "exec", name)
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        # A thread that lives in the namespace, for whatever this process asks there.
        self.thread = concurrent.futures.ThreadPoolExecutor(1, initializer=self._enter)

    def _enter(self):
        with open(f"/run/netns/{self.name}", "rb") as home:
            if ctypes.CDLL(None, use_errno=True).setns(home.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def call(self, function):
        return self.thread.submit(function).result()

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def nft(self, command):
        return run(*self.prefix, "nft", command)

    # --- what may befall a host ---

    def cut(self):
        """Its cable is pulled: the device is down, whoever sends from here is told."""
        self.ip("link", "set", DEVICE, "down")

    def join(self):
        self.ip("link", "set", DEVICE, "up")

    def silence(self, peer=None):
        """Packets vanish both ways, from one peer or all; nobody is told, connections stay half open."""
        match = {"input": f"ip saddr {peer.address} " if peer else f"iifname {DEVICE} ",
                 "output": f"ip daddr {peer.address} " if peer else f"oifname {DEVICE} "}
        self.nft("add table ip silence")
        for hook in ("input", "output"):
            self.nft(f"add chain ip silence {hook} {{ type filter hook {hook} priority 0; }}")
            self.nft(f"add rule ip silence {hook} {match[hook]} counter drop")

    def hear(self):
        self.nft("delete table ip silence")

    def num_silenced(self):
        """Packets that the drop rules have taken so far."""
        rules = json.loads(run(*self.prefix, "nft", "-j", "list", "table", "ip", "silence"))
        return sum(expression["counter"]["packets"] for entry in rules["nftables"]
                   for expression in entry.get("rule", {}).get("expr", ())
                   if "counter" in expression)


class Network:
    """Hosts 10.77.0.1, 10.77.0.2, ... in the order of their names, and the wire between them."""

    def __init__(self, names, seed=1):
        self.hosts = {name: Host(name, f"10.77.0.{index}") for index, name in enumerate(names, 1)}
        self.relay = subprocess.Popen(
            [support_program("tun_relay"), "--seed", str(seed),
             *(f"{host.name}={host.address}" for host in self.hosts.values())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.relay.stdout.readline() == "ready\n", "the relay did not start"
        for host in self.hosts.values():
            host.ip("addr", "add", f"{host.address}/24", "dev", DEVICE)
            host.ip("link", "set", DEVICE, "up")

    def __getitem__(self, name):
        return self.hosts[name]

    def _ask(self, line):
        self.relay.stdin.write(line + "\n")
        self.relay.stdin.flush()
        return self.relay.stdout.readline().strip()

    def link(self, one, other, **settings):
        """Both directions; "*" is every host. No settings: a perfect link."""
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        for ends in ((one, other), (other, one)):
            answer = self._ask(f"link {ends[0]} {ends[1]} {words}")
            assert answer == "ok", answer

    def stats(self):
        return json.loads(self._ask("stats"))

    def close(self):
        self.relay.stdin.close()
        self.relay.wait(timeout=10)
        self.relay.stdout.close()
        for host in self.hosts.values():
            host.thread.shutdown()
            run("ip", "netns", "del", host.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
