"""The NVML reader, with a small library in C whose values the tests set."""

import pytest

A, B = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-89400000-0000-0000-0000-000000000001"
SLICE_0, SLICE_1 = "MIG-aaaa0000-0000-5000-8000-000000000000", "MIG-aaab0000-0000-5000-8000-000000000001"

TWO = f"""
count 2
0.uuid {A}
0.name NVIDIA Toy
0.busy 93
0.memory_busy 41
0.memory_total 80e9
0.memory_used 30e9
0.memory_reserved 1e9
0.sm_clock 1410
0.memory_clock 1593
0.power 251500
0.temperature 61
0.throttle 36
0.energy 1000000
1.uuid {B}
1.name NVIDIA Toy
1.busy 7
1.power 60000
"""

MIG = f"""
count 2
0.uuid {B}
0.name NVIDIA Toy
0.busy 50
1.uuid {A}
1.name NVIDIA Toy
1.mig 1
1.power 300000
1.energy 5000
1.gpm 1
1.gi.5.gpm.2 100
1.gi.5.gpm.5 50
1.gpm.2 900
1.mig.0.uuid {SLICE_0}
1.mig.0.name NVIDIA Toy MIG 3g.40gb
1.mig.0.gi 2
1.mig.0.ci 0
1.mig.3.uuid {SLICE_1}
1.mig.3.name NVIDIA Toy MIG 1g.10gb
1.mig.3.gi 5
1.mig.3.ci 0
1.mig.3.memory_total 10e9
1.mig.3.memory_used 4e9
"""

VISIBLE = "from distdl.telemetry.nvml import visible_uuids\nanswer = visible_uuids()"
READ = """
from distdl.telemetry import nvml, nvml_gpm
from distdl.telemetry.nvml import NvmlDevice
class Clock:
    now = 1000.0
    def monotonic(self):
        return self.now
clock = nvml.time = nvml_gpm.time = Clock()
device = NvmlDevice({uuid!r})
answer = [device.sample()]
{between}
answer.append(device.sample())
device.close()
"""


def read(ask, uuid: str, state: str, next_state: str = "", interval_s: float = 0.25, **options) -> tuple[dict, dict]:
    """Read two samples of a device. Before the second one, `next_state` is added to the state."""
    between = f"put({next_state + state!r})\nclock.now += {interval_s}"
    first, second = ask(READ.format(uuid=uuid, between=between), state, **options)
    return first, second


LISTED = {
    None: [A, B],
    "": [],
    "1": [B],
    "1,0": [B, A],
    " 1 , 0 ": [B, A],
    "0,-1,1": [A],
    "0,7,1": [A],
    "0,0": [],
    B: [B],
    f"{B},{A}": [B, A],
    "GPU-893": [A],
    "GPU-89": [],
    "GPU-none,0": [],
    "all": [],
    "0,": [A],
    ",0": [],
    "00": [A],
    "+1": [B],
    "-0": [A],
    "1gpu": [B],
    "0,-": [A],
    "²": [],
    "99999999999999999999": [],
    A.upper(): [A],
    B.upper().replace("GPU", "gpu"): [],
    "GPU-893F": [],
    "GPU-8932F937": [A],
}
LISTED_SLICES = {
    SLICE_1: [SLICE_1],
    "MIG-aaab": [SLICE_1],
    "MIG-aaa": [],
    f"MIG-{A}/5/0": [SLICE_1],
    f"MIG-{A}/9/0": [],
    f"MIG-{A.upper()}/5/0": [SLICE_1],
    "MIG-AAAB": [SLICE_1],
    "1": [SLICE_0],
    A: [SLICE_0],
    None: [B, SLICE_0],
}


@pytest.mark.parametrize(("state", "cases"), [(TWO, LISTED), (MIG, LISTED_SLICES)], ids=["gpus", "slices"])
def test_cuda_visible_devices_selects_and_orders_devices(ask, state, cases):
    environments = [{} if listed is None else {"CUDA_VISIBLE_DEVICES": listed} for listed in cases]
    code = f"from distdl.telemetry.nvml import visible_uuids\nanswer = [visible_uuids(each) for each in {environments}]"
    assert dict(zip(cases, ask(code, state), strict=True)) == cases


def test_cuda_visible_devices_is_read_from_the_environment(ask):
    assert ask(VISIBLE, TWO, CUDA_VISIBLE_DEVICES="1,0") == [B, A]


def test_different_models_need_cuda_device_order(ask):
    code = """
from distdl.core.errors import UserError
from distdl.telemetry.nvml import visible_uuids
try:
    answer = visible_uuids()
except UserError as error:
    answer = str(error)
"""
    mixed = TWO.replace("1.name NVIDIA Toy", "1.name NVIDIA Other")
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in ask(code, mixed, CUDA_VISIBLE_DEVICES="1")
    assert ask(code, mixed, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [B]
    assert ask(code, mixed, CUDA_VISIBLE_DEVICES=B) == [B]


def test_the_uuid_from_torch_is_converted(ask):
    code = "from distdl.telemetry.nvml import uuid_of\nanswer = uuid_of({!r}, {})"
    assert ask(code.format(A.removeprefix("GPU-"), 0), TWO, CUDA_VISIBLE_DEVICES="0") == A
    assert ask(code.format("no-such-device", 0), TWO) is None
    # torch reports the UUID of the GPU, of which the process can use one slice
    assert ask(code.format(A.removeprefix("GPU-"), 0), MIG, CUDA_VISIBLE_DEVICES=SLICE_1) == SLICE_1
    assert ask(code.format(SLICE_1.removeprefix("MIG-"), 0), MIG) == SLICE_1


def test_all_values_of_the_library_are_read(ask):
    first, _ = read(ask, A, TWO)
    assert first == {
        "device": A,
        "busy_percent": 93,
        "memory_busy_percent": 41,
        "memory_used_bytes": 30_000_000_000,
        "memory_total_bytes": 80_000_000_000,
        "sm_clock_mhz": 1410,
        "memory_clock_mhz": 1593,
        "power_w": 251.5,
        "temperature_c": 61,
        "throttle": ["sw_power_cap", "sw_thermal"],
        "energy_j": 0.0,
        "energy_from": "counter",
    }


def test_the_second_device_is_read(ask):
    first, _ = read(ask, B, TWO + "1.memory_busy 3\n", CUDA_VISIBLE_DEVICES="1")
    assert (first["device"], first["busy_percent"], first["memory_busy_percent"], first["power_w"]) == (B, 7, 3, 60)


def test_unsupported_values_are_omitted(ask):
    first, second = read(ask, B, TWO)
    assert set(first) == set(second) == {"device", "power_w", "energy_j", "energy_from"}


def test_energy_is_read_from_the_counter(ask):
    _, second = read(ask, A, TWO, next_state="0.energy 1042500\n")
    assert second["energy_j"] == pytest.approx(42.5)
    assert second["energy_from"] == "counter"


def test_energy_is_not_negative_after_a_counter_reset(ask):
    _, second = read(ask, A, TWO, next_state="0.energy 12\n")
    assert second["energy_j"] == 0


def test_energy_is_integrated_from_power_without_a_counter(ask):
    first, second = read(ask, B, TWO, next_state="1.power 180000\n", interval_s=0.5)
    assert (first["energy_j"], second["energy_from"]) == (0, "power")
    assert second["energy_j"] == (60 + 180) / 2 * 0.5


def test_rates_are_computed_from_counters(ask):
    totals = "0.field.197 1000\n0.field.198 5000\n0.field.138 10\n0.field.139 20\n"
    moved = "0.field.197 301000\n0.field.198 5000\n0.field.138 1034\n0.field.139 20\n"
    first, second = read(ask, A, TWO + totals, next_state=moved, interval_s=0.5)
    assert "pcie_tx_bytes_per_s" not in first
    assert second["pcie_tx_bytes_per_s"] == 300_000 / 0.5
    assert second["pcie_rx_bytes_per_s"] == 0
    assert second["nvlink_tx_bytes_per_s"] == 1024 * 1024 / 0.5
    assert second["nvlink_rx_bytes_per_s"] == 0


def test_an_overflow_of_a_32_bit_counter_is_corrected(ask):
    totals, moved = f"0.field32.197 {2**32 - 1000}\n", "0.field32.197 2000\n"
    _, second = read(ask, A, TWO + totals, next_state=moved, interval_s=0.5)
    assert second["pcie_tx_bytes_per_s"] == 3000 / 0.5


def test_a_decreased_64_bit_counter_gives_no_rate(ask):
    _, second = read(ask, A, TWO + "0.field.197 5000\n", next_state="0.field.197 10\n", interval_s=0.5)
    assert "temperature_c" in second and "pcie_tx_bytes_per_s" not in second


def test_slowly_changing_values_are_read_less_often(ask):
    between = "for _ in range(8):\n    clock.now += 0.125\n    answer.append(device.sample())"
    rows = ask(READ.format(uuid=A, between=between), TWO)
    assert all("busy_percent" in row and "power_w" in row for row in rows)
    slow = ["memory_used_bytes" in row for row in rows]
    assert slow == [number % 4 == 0 for number in range(9)] + [False]  # every half second


def test_pcie_throughput_is_read_without_a_counter(ask):
    first, _ = read(ask, A, TWO + "0.pcie_tx 12\n0.pcie_rx 34\n")
    assert (first["pcie_tx_bytes_per_s"], first["pcie_rx_bytes_per_s"]) == (12_000, 34_000)


def test_gpm_metrics_are_differences_of_two_samples(ask):
    gpm = "0.gpm 1\n0.gpm.2 100\n0.gpm.3 100\n0.gpm.5 10\n0.gpm.10 7\n0.gpm.20 1\n0.pcie_tx 12\n0.pcie_rx 12\n"
    later = "0.gpm.2 187.5\n0.gpm.3 140\n0.gpm.5 72\n0.gpm.10 30\n0.gpm.20 4\n"
    first, second = read(ask, A, TWO + gpm, next_state=later)
    assert "sm_active_percent" not in first
    assert second["sm_active_percent"] == 87.5
    assert second["sm_occupancy_percent"] == 40
    assert second["tensor_active_percent"] == 62
    assert second["dram_active_percent"] == 23
    assert second["pcie_tx_bytes_per_s"] == 3 * 2**20
    assert "fp32_active_percent" not in second
    assert "pcie_rx_bytes_per_s" not in second


def test_gpm_waits_for_the_librarys_refresh(ask):
    gpm = "0.gpm 1\n0.gpm.2 100\n"
    first, second = ask(READ.format(uuid=A, between="pass"), TWO + gpm)
    assert "sm_active_percent" not in first | second


def test_a_slice_has_its_memory_and_activity_and_the_power_of_its_gpu(ask):
    first, second = read(ask, SLICE_1, MIG, next_state="1.gi.5.gpm.2 130\n1.gi.5.gpm.5 60\n1.energy 6000\n")
    assert (first["device"], first["gpu"]) == (SLICE_1, A)
    assert (first["memory_used_bytes"], first["memory_total_bytes"]) == (4_000_000_000, 10_000_000_000)
    assert (first["power_w"], second["energy_j"]) == (300, 1)
    assert (second["sm_active_percent"], second["tensor_active_percent"]) == (30, 10)
    assert "busy_percent" not in second


def test_an_old_driver_with_fewer_functions_gives_all_values(ask, old_driver):
    first, _ = read(ask, A, TWO, library=old_driver)
    assert (first["temperature_c"], first["throttle"]) == (61, ["sw_power_cap", "sw_thermal"])
    assert first["memory_used_bytes"] == 31_000_000_000  # the first version counts the reserve as used


def test_a_temporary_error_omits_one_value(ask):
    busy = f"put({'0.fails.power 999' + chr(10) + TWO!r})\ndevice.sample()\nput({TWO!r})"
    first, second = ask(READ.format(uuid=A, between=busy), TWO)
    assert first["power_w"] == second["power_w"] == 251.5


def test_a_disconnected_device_is_lost(ask):
    code = f"""
from distdl.telemetry.nvml import NvmlDevice, Lost
device, other = NvmlDevice({A!r}), NvmlDevice({B!r})
device.sample()
put({"0.fails.all 15" + chr(10) + TWO!r})
try:
    answer = device.sample()
except Lost as error:
    answer = [str(error), other.sample()["power_w"]]
device.close()
other.close()
"""
    assert ask(code, TWO) == ["GPU is lost", 60]


def test_without_a_driver_there_are_no_devices(ask):
    assert ask(VISIBLE, library=None) == []
    assert ask(VISIBLE, "init 9\n") == []


def test_every_nvml_session_is_closed(ask):
    code = f"""
import pynvml
from distdl.telemetry.nvml import NvmlDevice, uuid_of, visible_uuids
visible_uuids(), uuid_of({A[4:]!r}, 0)
device = NvmlDevice({A!r})
device.sample()
held = pynvml.nvmlLib.nvml_fake_users()
device.close()
try:
    NvmlDevice("GPU-none")
except pynvml.NVMLError:
    answer = [held, pynvml.nvmlLib.nvml_fake_users()]
"""
    assert ask(code, TWO + "0.gpm 1\n") == [1, 0]


CALLS = """
UUID Name HandleByUUID HandleByIndex_v2 MigMode MaxMigDeviceCount MigDeviceHandleByIndex
DeviceHandleFromMigDeviceHandle GpuInstanceId ComputeInstanceId UtilizationRates MemoryInfo MemoryInfo_v2 ClockInfo
PowerUsage Temperature TemperatureV CurrentClocksEventReasons CurrentClocksThrottleReasons TotalEnergyConsumption
PcieThroughput FieldValues
"""
FUNCTIONS = [f"nvmlDeviceGet{name}" for name in CALLS.split()]
FUNCTIONS += ["*", "nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet", "nvmlGpmMigSampleGet"]
OF_NO_DEVICE = ["nvmlInitWithFlags", "nvmlShutdown", "nvmlDeviceGetCount_v2", "nvmlGpmSampleAlloc", "nvmlGpmMetricsGet"]
CODES = [*range(1, 30), 999]
TABLE = """
import os
import pynvml
from distdl.telemetry.nvml import NvmlDevice, Lost, uuid_of, visible_uuids
answer = []
for function in {functions}:
    for code in {codes}:
        os.environ["NVML_FAKE_FAILS"] = f"{{function}} {device} {{code}}"
        try:
            row = [function, code, visible_uuids({{}}), visible_uuids({{"CUDA_VISIBLE_DEVICES": {other!r}}})]
            row += [uuid_of({other!r}[4:], {index}), []]
            for uuid in ({failing!r}, {other!r}):
                try:
                    device = NvmlDevice(uuid)
                except pynvml.NVMLError as error:
                    row[-1].append(str(error))
                    continue
                try:
                    row[-1].append(device.sample())
                except Lost as error:
                    row[-1].append(str(error))
                device.close()
        except Exception as error:
            row = [function, code, f"{{type(error).__name__}}: {{error}}"]
        answer.append(row)
"""
OTHER_ROW = {"busy_percent", "memory_busy_percent", "power_w", "energy_j", "energy_from"}


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("cut", [False, True])
def test_a_failed_device_does_not_hide_others(ask, failing, cut):
    uuids = [A, B]
    other = uuids[1 - failing]
    state = TWO + "1.memory_busy 1\n" + "".join(f"{gpu}.gpm 1\n{gpu}.gpm.2 1\n" for gpu in range(2))
    if cut:
        state += f"{failing}.mig 1\n{failing}.mig.0.uuid {SLICE_0}\n{failing}.mig.0.gi 2\n{failing}.mig.0.ci 0\n"
    code = TABLE.format(
        functions=FUNCTIONS,
        codes=CODES,
        device=failing,
        other=other,
        index=1 - failing,
        failing=SLICE_0 if cut else uuids[failing],
    )
    rows = ask(code, state)
    assert len(rows) == len(FUNCTIONS) * len(CODES)
    for function, code, visible, *rest in rows:
        assert rest, (function, code, visible)
        by_uuid, named, (_, healthy) = rest
        assert other in visible and by_uuid == [other] and named == other, (function, code, visible, by_uuid, named)
        assert set(healthy) >= OTHER_ROW, (function, code, healthy)


def test_a_failed_library_gives_no_devices_or_one_error(ask):
    code = TABLE.format(functions=OF_NO_DEVICE, codes=CODES, device=-1, other=B, index=1, failing=A)
    for function, number, *rest in ask(code, TWO + "0.gpm 1\n0.gpm.2 1\n"):
        assert len(rest) == 4, (function, number, rest)


@pytest.mark.parametrize("code", [46, 999])
def test_a_repeated_error_of_a_value_is_reported_once(ask, code):
    failing = f"0.fails.power {code}\n{TWO}"
    lines = f"""
from distdl.telemetry.nvml import NvmlDevice
device = NvmlDevice({A!r})
answer = []
for text in {[TWO, failing, TWO, failing]}:
    put(text)
    answer += [device.sample() for _ in range(8)]
"""
    rows = ask(lines, TWO)
    errors = [(index, row["error"]) for index, row in enumerate(rows) if "error" in row]
    assert [index for index, _ in errors] == [12]
    assert errors[0][1].startswith("power: ")
    assert all("power_w" in row for row in rows[:8] + rows[16:24])
    assert all("busy_percent" in row for row in rows)


@pytest.mark.parametrize("code", [3, 4, 999])
def test_a_device_without_values_is_reported_once(ask, code):
    lines = f"from distdl.telemetry.nvml import NvmlDevice\ndevice = NvmlDevice({A!r})\n"
    lines += f"put({f'0.fails.all {code}' + chr(10) + TWO!r})\nanswer = [device.sample() for _ in range(20)]"
    errors = [row["error"] for row in ask(lines, TWO) if "error" in row]
    assert len(errors) == 1
    assert "every reading: " in errors[0]


def test_a_gpu_of_another_job_has_no_index(ask):
    hidden = {"NVML_FAKE_FAILS": "nvmlDeviceGetHandleByIndex_v2 0 4"}
    assert ask(VISIBLE, TWO, **hidden) == [B]
    assert ask(VISIBLE, TWO, CUDA_VISIBLE_DEVICES="0", **hidden) == [B]


def test_a_lost_gpu_keeps_its_index(ask):
    lost = {"NVML_FAKE_FAILS": "* 0 15"}
    assert ask(VISIBLE, TWO, **lost) == [B]
    assert ask(VISIBLE, TWO, CUDA_VISIBLE_DEVICES="1", **lost) == [B]
    assert ask(VISIBLE, TWO, CUDA_VISIBLE_DEVICES="0,1", **lost) == [B]


def test_doctor_prints_one_line_for_any_error_of_the_library(ask):
    code = f"""
import os
from distdl.cli.doctor import examine, CHECKS
for name in set(CHECKS) - {{"nvml"}}:
    del CHECKS[name]
answer = {{}}
for function in ("nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlShutdown", "none"):
    for code in {CODES}:
        os.environ["NVML_FAKE_FAILS"] = f"{{function}} -1 {{code}}"
        answer[f"{{function}} {{code}}"] = examine()[0].detail
"""
    answer = ask(code, TWO)
    assert "reboot" in answer["nvmlInitWithFlags 18"]
    assert "comes with NVIDIA's driver" in answer["nvmlInitWithFlags 12"]
    assert "comes with NVIDIA's driver" not in answer["nvmlInitWithFlags 18"]
    assert "modprobe" in answer["nvmlInitWithFlags 9"]
    # The small library lacks nvmlSystemGetDriverVersion, as an old driver lacks others.
    assert "update the driver" in answer["none 1"]
