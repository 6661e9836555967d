"""What a machine or a Ray cluster has."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from synthgen.config import ClusterConfig, GpuConfig
from synthgen.planning import describe_cluster, list_gpu_kinds, resolve_cluster

AUTO = ClusterConfig(name="auto", auto=True)


@pytest.fixture
def fake_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named nvidia-smi that prints the lines of the returned file."""
    lines = tmp_path / "gpus.csv"
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat {lines}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lines


def test_resolve_cluster_leaves_presets_alone() -> None:
    preset = ClusterConfig(name="mine", nodes=3, gpus_per_node=2)
    assert resolve_cluster(preset, [{"CPU": 8.0, "GPU": 8.0}]) is preset


def test_resolve_cluster_asks_this_machine(fake_nvidia_smi: Path) -> None:
    fake_nvidia_smi.write_text("".join(f"{i}, GPU-{i}, NVIDIA H200, 143771\n" for i in range(8)))
    found = resolve_cluster(AUTO)
    assert (found.nodes, found.gpus_per_node, found.gpu.name) == (1, 8, "H200-141")
    assert not found.auto


def test_resolve_cluster_respects_visible_devices(fake_nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi.write_text("".join(f"{i}, GPU-{i}, NVIDIA H100 80GB HBM3, 81559\n" for i in range(8)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-5")
    assert resolve_cluster(AUTO).gpus_per_node == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resolve_cluster(AUTO).gpus_per_node == 0


@pytest.mark.parametrize(
    ("name", "mib", "kind"),
    [
        ("NVIDIA A100-SXM4-40GB", 40960, "A100-40"),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80"),
        ("NVIDIA A10G", 23028, "A10G"),
        ("NVIDIA L4", 23034, "L4"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100-80"),
        ("NVIDIA H100 PCIe", 81559, "H100-PCIe"),
        ("NVIDIA H100 NVL", 95830, "H100-NVL"),
        ("NVIDIA A100 80GB PCIe", 81920, "A100-80-PCIe"),
        ("NVIDIA A100-PCIE-40GB", 40960, "A100-40-PCIe"),
        ("NVIDIA H20", 97871, "H20-96"),
        ("NVIDIA B200", 183359, "B200"),
        ("NVIDIA GB200", 189471, "GB200"),
        ("NVIDIA B300 SXM6 AC", 275040, "B300"),
        ("NVIDIA GB300", 284208, "GB300"),
        ("NVIDIA L40S", 46068, "L40S"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX4090"),
        ("NVIDIA GeForce RTX 5090", 32607, "RTX5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTXPRO6000"),
        ("Tesla Q7", 16000, "Tesla Q7"),
    ],
)
def test_resolve_cluster_finds_the_data_sheet(fake_nvidia_smi: Path, name: str, mib: int, kind: str) -> None:
    fake_nvidia_smi.write_text(f"0, GPU-0, {name}, {mib}\n")
    gpu = resolve_cluster(AUTO).gpu
    assert gpu.name == kind
    assert gpu.memory_gib == pytest.approx(mib / 1024, rel=0.05)


def test_resolve_cluster_finds_a_gpu_that_shares_the_memory(fake_nvidia_smi: Path) -> None:
    fake_nvidia_smi.write_text("0, GPU-0, NVIDIA GB10, [N/A]\n")
    found = resolve_cluster(AUTO)
    assert (found.gpus_per_node, found.gpu.name) == (1, "GB10")


ROCM = {
    f"card{n}": {"Card Series": "AMD Instinct MI300X OAM", "VRAM Total Memory (B)": "206141652992"} for n in range(8)
}
AMD = {"gpu_data": [{"gpu": 0, "asic": {"market_name": "MI355X"}, "vram": {"size": {"value": 294896, "unit": "MB"}}}]}


@pytest.mark.parametrize(
    ("program", "said", "count", "kind"), [("rocm-smi", ROCM, 8, "MI300X"), ("amd-smi", AMD, 1, "MI355X")]
)
def test_resolve_cluster_finds_amd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: object, count: int, kind: str
) -> None:
    path = tmp_path / program
    path.write_text(f"#!/bin/sh\ncat <<'END'\nWARNING: a line before\n{json.dumps(said)}\nEND\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = resolve_cluster(AUTO)
    assert (found.gpus_per_node, found.gpu.name) == (count, kind)
    if count == 8:
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0,3")
        assert resolve_cluster(AUTO).gpus_per_node == 2


def test_resolve_cluster_without_a_driver(fake_nvidia_smi: Path) -> None:
    fake_nvidia_smi.write_text("No devices were found\n")
    assert resolve_cluster(AUTO).gpus_per_node == 0


def test_resolve_cluster_reads_ray_nodes() -> None:
    nodes = [
        {"CPU": 8.0, "node:__internal_head__": 1.0},
        {"CPU": 96.0, "GPU": 8.0, "accelerator_type:H100": 1.0},
        {"CPU": 96.0, "GPU": 8.0, "accelerator_type:H100": 1.0},
    ]
    found = resolve_cluster(AUTO, nodes)
    assert (found.nodes, found.gpus_per_node, found.gpu.name) == (2, 8, "H100-80")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("B200", "B200"), ("H20", "H20-96"), ("L40S", "L40S"), ("AMD-Instinct-MI300X-OAM", "MI300X"), ("H100", "H100-80")],
)
def test_resolve_cluster_knows_the_names_of_ray(name: str, kind: str) -> None:
    assert resolve_cluster(AUTO, [{"GPU": 8.0, f"accelerator_type:{name}": 1.0}]).gpu.name == kind


def test_resolve_cluster_takes_the_kind_with_most_gpus() -> None:
    nodes = [{"GPU": 1.0, "accelerator_type:L4": 1.0}] * 3 + [{"GPU": 8.0, "accelerator_type:A100": 1.0}]
    found = resolve_cluster(AUTO, nodes)
    assert (found.nodes, found.gpus_per_node) == (1, 8)
    assert found.gpu.name == "A100-40"  # Ray's name does not tell which: the plan must hold on either
    assert resolve_cluster(AUTO, nodes, gpu_memory_gib=79.3).gpu.name == "A100-80"


def test_resolve_cluster_of_cpu_nodes() -> None:
    found = resolve_cluster(AUTO, [{"CPU": 4.0}, {"CPU": 16.0}])
    assert (found.nodes, found.gpus_per_node, found.num_cpus) == (2, 0, 16)


def test_resolve_cluster_keeps_a_given_data_sheet() -> None:
    given = ClusterConfig(auto=True, gpu=GpuConfig(name="mine", memory_gib=32))
    assert resolve_cluster(given, [{"GPU": 4.0}]).gpu.name == "mine"


def test_describe_cluster_in_words() -> None:
    h100 = list_gpu_kinds()["h100-80"]
    assert describe_cluster(ClusterConfig()) == "this machine, without GPUs"
    assert describe_cluster(ClusterConfig(gpus_per_node=8, gpu=h100)) == "8 × H100-80 (79.1 GiB each)"
    assert describe_cluster(ClusterConfig(nodes=2, gpus_per_node=8, gpu=h100)).startswith("2 nodes of 8 × H100-80")


def test_list_gpu_kinds_has_whole_data_sheets() -> None:
    for name, gpu in list_gpu_kinds().items():
        assert gpu.memory_gib > 0, name
        assert gpu.bandwidth_gb_s > 0, name
        assert gpu.tflops_bf16 > 0, name
        assert gpu.interconnect_gb_s > 0, name
        assert gpu.accelerator_type, name
