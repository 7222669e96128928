"""How much memory a hub takes with many members connected, and how long they wait for each other.

Run: python benchmarks/measure_hub_lines.py [1000]
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import sys
import tempfile
import time
from pathlib import Path

from test_bench_hub import end, member, serve_hub

from smpc.transport.relay_wire import RELAY, RecordReader, record
from smpc.transport.streams import TlsStream
from synthema.enrolling import enrol
from synthema.hub.hub import HubFolder
from synthema.messages import HUB, MEMBER_LIST, Assembler
from synthema.networks.line_wire import BEAT, LINE_HELLO, LINE_MAGIC, LINE_NOTICE, line_notice


def rss_mb(pid):
    line = next(each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Quiet:
    """A member that only listens: no thread, and few buffers."""

    def __init__(self, address, files):
        sock = socket.create_connection((address.host, address.port))
        self.stream = TlsStream(sock, files.tls().context(server_side=False), server_side=False)
        self.reader, self.assembler, self.present = RecordReader(), Assembler(), set()
        while not self.stream.handshake():
            select.select([sock], [], [], 1)
        self.say(LINE_HELLO.pack(LINE_MAGIC, 0))

    def say(self, body):
        self.stream.send(memoryview(record(RELAY, body)))

    def read(self):
        while self.reader.fill(self.stream):
            while (taken := self.reader.take()) is not None:
                if len(taken[1]) == LINE_NOTICE.size:
                    continue
                message = self.assembler.add(HUB, taken[1])
                if message is not None:
                    for info in MEMBER_LIST.validate_json(message.payload):
                        (self.present.add if info.is_connected else self.present.discard)(info.name)


def main(n):
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    folder = Path(tempfile.mkdtemp())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    files = HubFolder.create(folder / "hub", name="many", listen=f"127.0.0.1:{port}")
    address = {"host": "127.0.0.1", "port": port, "fingerprint": files.fingerprint.hex()}
    (folder / "address.json").write_text(json.dumps(address))
    process = serve_hub(files)
    names = [f"m{i}" for i in range(n)]
    began, used = time.monotonic(), cpu_seconds(process.pid)
    for name in names:
        enrol(files.invite(name, "site").text(), name, folder / name)
    print(
        f"{n} members enrolled in {time.monotonic() - began:.1f} s, hub {cpu_seconds(process.pid) - used:.1f} s of CPU"
    )
    before, used, began = rss_mb(process.pid), cpu_seconds(process.pid), time.monotonic()
    members = []
    for name in names:
        members.append(Quiet(*member(folder, name)))
        if len(members) % 50 == 0:
            for each in members:
                each.read()
                each.say(line_notice(BEAT))
    connected = time.monotonic()
    while not all(len(each.present) == n for each in members):
        for each in members:
            each.read()
            each.say(line_notice(BEAT))
    done = time.monotonic()
    print(f"all connected in {connected - began:.1f} s, all know of all {done - connected:.1f} s later")
    after = rss_mb(process.pid)
    print(f"hub: {cpu_seconds(process.pid) - used:.1f} s of CPU; {before:.0f} MB before, {after:.0f} MB after")
    for each in members:
        each.stream.close()
    end(process)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
