"""`cpns bench`: servers, gateways and devices that are real, and few."""

import json
import signal
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.test_cli import Running, cpns, data_of, fails, good, misused
from tests.integration.test_uplink import certificate


def test_one_command_loads_a_server_of_its_own(tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = cpns(
        *("bench", "--gateways", "2", "--pnes", "4", "--batch", "2", "--processes", "2", "--rate", "40"),
        *("--duration", "3", "--loss", "0.02", "--churn", "60", "--out", report, "--output", "json"),
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    told = json.loads(done.stdout)
    assert told == json.loads((report / "report.json").read_text())
    assert told["held"]
    assert (told["established"], told["offered"], told["acknowledged"]) == (8, 120, 120)
    assert told["stored"] == 120
    assert (told["refused"], told["unanswered"]) == ({}, 0)
    assert 1 <= told["churned"] <= 4
    assert 0 < told["latency_ms"][0] <= told["latency_ms"][2] <= told["max_ms"]
    assert set(told["cores"]) == {*told["bytes_per_pne"], "others"} == {"server", "gateways", "pnes", "others"}
    assert len([sample for sample in told["samples"] if sample["offered"]]) >= 3
    for name in ("latency", "throughput"):
        assert ET.parse(report / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    for doing in ("provisioning 2 gateways and 8 devices", "establishing 8 PNEs", "offering 40 readings a second"):
        assert doing in done.stderr
    assert "Traceback" not in done.stderr


def test_a_running_server_is_loaded_until_ctrl_c_and_left_in_order(tmp_path: Path) -> None:
    data = tmp_path / "srv"
    good("server", "init", "--data", data)
    fails("server_not_running", "bench", "--data", data)
    server = Running(tmp_path, "server", "server", "run", "--data", data, "--listen", "127.0.0.1:0")
    try:
        server.wait("listening at")
        load = Running(
            tmp_path, "bench", "bench", "--data", data, "--gateways", "1", "--pnes", "2", "--duration", "600"
        )
        load.wait("offering", error=True)
        time.sleep(1.5)
        assert load.end(signal.SIGINT) == 0, load.err.read_text()
        assert "established       2 of 2 PNEs" in load.out.read_text()
        assert "latency           p50" in load.out.read_text()
        assert "revoking bench-" in load.err.read_text()
        for noun, count in (("gateway", 1), ("device", 2)):
            made = data_of(noun, "list", "--all", "--data", data)["items"]
            assert [one["state"] for one in made] == ["revoked"] * count
            assert all(one["id"].startswith("bench-") for one in made)
    finally:
        server.end()


@pytest.mark.long
def test_a_server_that_listens_with_tls_is_loaded_over_tls_alone(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "127.0.0.1")
    data = tmp_path / "srv"
    good("server", "init", "--data", data)
    tls = ("--tls-certificate", cert, "--tls-key", key)
    server = Running(tmp_path, "server", "server", "run", "--data", data, "--listen", "127.0.0.1:0", *tls)
    load = ("bench", "--data", data, "--gateways", "2", "--pnes", "2", "--rate", "20", "--duration", "1")
    try:
        server.wait("listening at")
        told = data_of(*load, "--tls", "--tls-ca", cert, run=cpns)
        assert (told["held"], told["acknowledged"], told["plan"]["tls"]) == (True, 20, True)
        with ThreadPoolExecutor() as pool:
            ended = pool.map(lambda options: cpns(*load, *options), ((), ("--tls",)))
        for done, what_to_do in zip(ended, ("give --tls.", "give --tls-ca"), strict=True):
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1].startswith("error[no_uplink]: "), done.stderr
            assert what_to_do in done.stderr.splitlines()[-1]
    finally:
        server.end()


def test_what_can_t_be_is_said_at_once(tmp_path: Path) -> None:
    fails("no_server", "bench", "--data", tmp_path)
    fails("rate_too_high", "bench", "--gateways", "1", "--rate", "5000")
    fails("bad_certificate", "bench", "--data", tmp_path, "--tls", "--tls-ca", tmp_path / "none.pem")
    assert "--data" in misused("bench", "--server", "127.0.0.1:5683")
    assert "--data" in misused("bench", "--tls")
    assert "--tls" in misused("bench", "--data", tmp_path, "--tls-ca", tmp_path / "ca.pem")
