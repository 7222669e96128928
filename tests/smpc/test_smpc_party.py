"""Parties as processes, started from the command line: three of them, a relay, and the sum that they agree on."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from networks import outcomes, together
from typer.testing import CliRunner

from smpc import PeerUnavailable
from smpc.dealing import deal
from smpc.errors import MaterialMissing
from smpc.forecast import forecast
from smpc.party import NoMaterial, installed_function, run_party
from smpc.party_config import PartyConfig, load_relay, read_integers, write_result
from smpc.store import install_package, open_store
from synthema.cli.app import app

NAMES = ["a.example", "b.example", "c.example"]
INPUTS = [[3, -1, 2**40], [10, 20, 30], [-100, 7, 0]]
STUDY = """
async def total(session, counts):
    a, b, c = await session.input(counts)
    return await session.open(a + b + c)

async def product(session, counts):
    a, b, _ = await session.input(counts)
    return await session.open(await session.mul(a, b))

async def largest(session, counts):
    a, b, c = await session.input(counts, max_abs=2**41)
    return (await session.open(await session.argmax(a + b + c))).reshape(1)
"""


def cli(*words, code=0):
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def folder(made, tmp_path):
    """A folder of one's own with everybody's keys, inputs and the protocol."""
    return shutil.copytree(made, tmp_path / "files")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("made")
    entries = [json.loads(cli("party", "keys", "--name", name, "--out", tmp_path, "--json").stdout) for name in NAMES]
    cli("party", "keys", "--name", "relay.example", "--out", tmp_path)
    (tmp_path / "study.py").write_text(STUDY)
    texts = [
        f'[[roster]]\nname = "{each["name"]}"\nidentity = "{each["identity"]}"\ncertificate = "{each["name"]}.crt"\n'
        for each in entries
    ]
    (tmp_path / "roster.toml").write_text("\n".join(texts))
    for i, values in enumerate(INPUTS):
        (tmp_path / f"input{i}.csv").write_text("\n".join(map(str, values)) + "\n")
    return tmp_path


def config(folder, party, transport, *, protocol="study:total", addresses=None, run="test", more=""):
    text = textwrap.dedent(f"""
        run = "{run}"
        party = {party}
        protocol = "{protocol}"
        input = "input{party}.csv"
        output = "output{party}.csv"

        [keys]
        identity = "{NAMES[party]}-identity.key"
        tls_key = "{NAMES[party]}-tls.key"
        tls_certificate = "{NAMES[party]}.crt"

        [transport]
        {transport}
        connect_seconds = 20
        round_seconds = 20

    """) + more.replace("{party}", str(party))
    roster = (folder / "roster.toml").read_text()
    for i, address in enumerate(addresses or []):
        roster = roster.replace(
            f'certificate = "{NAMES[i]}.crt"', f'certificate = "{NAMES[i]}.crt"\naddress = "{address}"'
        )
    path = folder / f"party{party}.toml"
    path.write_text(text + roster)
    return path


def relay_config(folder, listen="127.0.0.1:0"):
    seats = "".join(f'[[seats]]\nparty = {i}\ncertificate = "{name}.crt"\n' for i, name in enumerate(NAMES))
    path = folder / "relay.toml"
    path.write_text(
        f'listen = "{listen}"\n[keys]\ntls_certificate = "relay.example.crt"\n'
        f'tls_key = "relay.example-tls.key"\n{seats}'
    )
    return path


def process(folder, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    return subprocess.Popen(
        [sys.executable, "-m", "synthema", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_three_processes(folder, **options):
    """Run all three parties over a relay; return what each said."""
    relay = process(folder, "relay", "--config", relay_config(folder))
    try:
        address = relay.stdout.readline().removeprefix("listening on ").strip()
        transport = f'kind = "relay"\nrelay = "{address}"\nrelay_certificate = "relay.example.crt"'
        started = [
            process(
                folder,
                "party",
                "--config",
                config(folder, party, textwrap.indent(transport, " " * 8).strip(), **options),
                "--json",
            )
            for party in range(3)
        ]
        with ThreadPoolExecutor(3) as pool:
            said = list(pool.map(lambda each: each.communicate(timeout=30), started))
        assert [each.returncode for each in started] == [0, 0, 0], said
    finally:
        relay.terminate()
        _, complaint = relay.communicate(timeout=10)
    assert complaint == "stopped\n"
    return [json.loads(out) for out, _ in said]


def test_three_processes_and_a_relay_agree_on_the_sum_of_the_plain_numbers(folder):
    bodies = run_three_processes(folder)
    expected = [sum(column) for column in zip(*INPUTS, strict=True)]
    for party in range(3):
        assert read_integers(folder / f"output{party}.csv").tolist() == expected
    assert len({body["session_id"] for body in bodies}) == 1
    assert [body["rounds"] for body in bodies] == [2, 2, 2]


@pytest.mark.slow
def test_three_processes_choose_the_largest_by_material_that_a_dealer_made(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    largest = installed_function("study:largest")
    needed = forecast(largest, INPUTS).material
    dealt = deal({kind: 3 * count for kind, count in needed.items()}, 3, folder)
    for party, package in enumerate(dealt.files):
        install_package(package, folder / f"store{party}")
    expected = int(np.argmax(np.sum(INPUTS, axis=0)))
    marks = []
    for run in ("first", "second"):
        run_three_processes(folder, protocol="study:largest", run=run, more='[material]\nstore = "store{party}"\n')
        assert [read_integers(folder / f"output{party}.csv").tolist() for party in range(3)] == [[expected]] * 3
        with open_store(folder / "store0", party=0, n_parties=3) as store:
            marks.append(dict(store.left))
    # What the first run used is not there for the second.
    assert all(marks[1][kind] < marks[0][kind] for kind in needed)


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_configurations_of_direct_lines_lead_to_the_same_sum(folder):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    setups = [PartyConfig.load(config(folder, i, 'kind = "direct"', addresses=addresses)) for i in range(3)]

    async def add(s, x):
        a, b, c = await s.input(x)
        return await s.open(a + b + c)

    def side(i):
        data = read_integers(setups[i].input_file)
        return run_party(add, data, transport=setups[i].connect(), material=NoMaterial())

    runs = together([lambda i=i: side(i) for i in range(3)])
    assert [run.result.tolist() for run in runs] == [[sum(column) for column in zip(*INPUTS, strict=True)]] * 3
    assert repr(runs[0]).startswith("PartyRun(rounds=2, bytes_sent=")


def test_a_product_without_material_is_refused_by_name_and_the_others_know_at_once(network):
    transports = network.connect("direct", 2)

    async def product(s, x):
        a, b = await s.input(x)
        return await s.open(await s.mul(a, b))

    async def patient(s, x):
        a, b = await s.input(x)
        return await s.open(a + b)

    sides = [product, patient]
    first, second = outcomes(
        [lambda i=i: run_party(sides[i], [1], transport=transports[i], material=NoMaterial()) for i in range(2)]
    )
    assert isinstance(first, MaterialMissing)
    assert isinstance(second, PeerUnavailable)
    assert second.party == 0


# Files.


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (("party = 0", "party = 3"), r"party must be in 0\.\.2"),
        (("party = 0", 'party = "0"'), "party in party0.toml must be of type int, got str"),
        (('run = "test"\n', ""), "party0.toml needs run"),
        (('run = "test"', 'run = "test"\nrum = 1'), "an entry that is not known: rum"),
        (('kind = "direct"', 'kind = "carrier pigeon"'), '"direct" or "relay"'),
        (('kind = "direct"', 'kind = "relay"\nrelay = "nowhere"'), '"host:port"'),
        (("round_seconds = 20", "round_seconds = 0"), r"round_seconds must be in \(0, 86400\]"),
        (("round_seconds = 20", "round_seconds = true"), "must be of type float, got bool"),
        (('identity = "', 'identity = "zz'), "64 hexadecimal digits"),
        (("= 0", "= = 0"), "is no TOML file"),
    ],
)
def test_each_wrong_entry_of_a_configuration_is_named(folder, change, rule):
    addresses = [f"127.0.0.1:{port}" for port in (1, 2, 3)]
    path = config(folder, 0, 'kind = "direct"', addresses=addresses)
    assert PartyConfig.load(path).party == 0
    before, after = change
    text = path.read_text()
    at = text.rindex(before) if before.startswith("identity") else text.index(before)
    path.write_text(text[:at] + after + text[at + len(before) :])
    with pytest.raises(ValueError, match=rule):
        PartyConfig.load(path)


def test_direct_lines_need_addresses(folder):
    with pytest.raises(ValueError, match=r"an address for 'a\.example'"):
        PartyConfig.load(config(folder, 0, 'kind = "direct"'))


def test_wrong_files_end_a_command_with_one_sentence(folder):
    path = config(folder, 0, 'kind = "direct"', addresses=["127.0.0.1:1"] * 3, protocol="nowhere:total")
    assert "no module 'nowhere'" in cli("party", "--config", path, code=2).output
    assert "missing.toml is not found" in cli("party", "--config", folder / "missing.toml", code=2).output
    assert "give --config" in cli("party", code=2).output
    assert "no key is overwritten" in cli("party", "keys", "--name", NAMES[0], "--out", folder, code=2).output
    assert "ASCII letters" in cli("party", "keys", "--name", "../a", "--out", folder, code=2).output
    (folder / f"{NAMES[0]}-identity.key").chmod(0o644)
    path = config(folder, 0, 'kind = "direct"', addresses=["127.0.0.1:1"] * 3, protocol="smpc.protocols:inner_product")
    assert "mode 0644" in cli("party", "--config", path, code=2).output


def test_keys_are_made_private(folder):
    for end in ("-identity.key", "-tls.key"):
        assert (folder / f"{NAMES[0]}{end}").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (('listen = "', 'listne = "'), "needs listen"),
        (("party = 0", "party = 0\nname = 1"), "not known: name"),
        (("[keys]", "[limits]\nidle_seconds = 0\n[keys]"), "idle_seconds must be > 0"),
        (("[keys]", "[limits]\nidle = 1\n[keys]"), "not known: idle"),
    ],
)
def test_each_wrong_entry_of_a_relay_is_named(folder, change, rule):
    path = relay_config(folder)
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(ValueError, match=rule):
        load_relay(path)


@pytest.mark.parametrize("name", ["7", "no colon", ":f", "json:", "json:nothing", "json:not an identifier"])
def test_what_names_no_function_is_refused(name):
    with pytest.raises(ValueError, match="protocol"):
        installed_function(name)


def test_integers_are_read_as_they_are_and_nothing_else_is(tmp_path):
    path = tmp_path / "x.csv"
    for text, expected in (
        ("1\n-2\n3\n", [1, -2, 3]),
        ("1,2,3", [1, 2, 3]),
        ("1, 2\n3 ,4\n\n", [[1, 2], [3, 4]]),
        (str(2**63 - 1), [2**63 - 1]),
    ):
        path.write_text(text)
        assert read_integers(path).tolist() == expected
    for text in ("a,b\n1,2\n", "1.5", "1,2\n3\n", "", str(2**63), "1,,2", "é"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"x\.csv must hold integers"):
            read_integers(path)


def test_arrays_are_read_without_pickle(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([[1, 2], [3, 4]], dtype=np.int32))
    assert read_integers(path).tolist() == [[1, 2], [3, 4]]
    for wrong in (np.array([1.5]), np.array([2**64 - 1], np.uint64), np.zeros((1, 1, 1), int)):
        np.save(path, wrong)
        with pytest.raises(ValueError, match="integers of 64 bits"):
            read_integers(path)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match="integers of 64 bits"):
        read_integers(path)


@pytest.mark.parametrize("result", [np.array([1, -2]), np.array([[1, 2], [3, 4]]), np.array([[5]])])
@pytest.mark.parametrize("end", [".csv", ".npy"])
def test_what_is_written_can_be_read(tmp_path, result, end):
    path = tmp_path / f"out{end}"
    write_result(path, result)
    assert read_integers(path).tolist() == (result.reshape(-1) if 1 in result.shape else result).tolist()
    write_result(path, 7)
    with pytest.raises(ValueError, match="one array of numbers"):
        write_result(path, "text")
    with pytest.raises(ValueError, match="one array of numbers"):
        write_result(path, np.array([object()]))
