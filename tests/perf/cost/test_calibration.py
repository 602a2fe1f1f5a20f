"""The fitted predictor, on simulated devices with known coefficients and on published measurements."""

from dataclasses import replace

import numpy as np
import pytest
import torchvision

from distdl.core.errors import UserError
from distdl.perf import hardware
from distdl.perf.cost import calibration
from distdl.perf.cost.calibration import PASSES, Calibration, Coefficient, Observation
from distdl.perf.cost.layers import Layer
from distdl.profiling.counting.count import count
from distdl.profiling.counting.meta import weightless
from distdl.profiling.published_networks import FAMILY, FORM, cnn_benchmarks
from repository import ROOT

CSV = ROOT / "benchmarks" / "cnn-benchmarks.csv"
DEVICE = hardware.device("t4")


@pytest.fixture(scope="module")
def published():
    return cnn_benchmarks(CSV)


def network(name, batch=4):
    with weightless():
        # There are no values to initialize; googlenet warns unless init_weights is set.
        model = torchvision.models.get_model(name, **({"init_weights": False} if name == "googlenet" else {}))
    return count(model, batch=batch, name=name)


def by_step(observations, errors):
    """Relative errors of the sum of forward and backward."""
    seconds = np.array([observation.seconds for observation in observations]).reshape(-1, 2)
    predicted = seconds * (1 + errors.reshape(-1, 2))
    return predicted.sum(1) / seconds.sum(1) - 1


def single_ppp(observations):
    return calibration.fit(observations, [Coefficient(term="compute")])


def five(observations):
    return calibration.fit(observations, FORM, winograd=True)


def test_unseen_networks_are_predicted_on_two_gpus(published):
    observations, names = published
    assert len(observations) == 36
    errors = calibration.left_out(observations, names, five)
    for error in (np.abs(errors), np.abs(by_step(observations, errors))):
        assert error.mean() <= 0.07
        assert error.max() <= 0.20


def test_a_single_ppp_for_all_layers_predicts_worse(published):
    observations, names = published
    errors = np.abs(calibration.left_out(observations, names, single_ppp))
    assert errors.mean() > 0.4 and errors.max() > 0.9


def test_unseen_families_are_predicted(published):
    """All ResNets, or both VGGs, are left out together."""
    observations, names = published
    errors = calibration.left_out(observations, [FAMILY[name] for name in names], five)
    assert np.abs(errors).mean() <= 0.13


def test_a_left_out_network_is_left_out_on_both_devices(published):
    observations, names = published
    seen = []

    def fitted(remaining):
        seen.append(len(remaining))
        return five(remaining)

    calibration.left_out(observations, names, fitted)
    assert seen == [32] * 9


def test_coefficients_of_a_simulated_device_are_recovered():
    form = (Coefficient(term="compute", least=1.0), Coefficient(term="traffic", least=1.0), Coefficient(term="layer"))
    truth = Calibration(form=form, values=(1.6, 2.5, 3e-5))
    observations = [
        Observation(layers=counted.layers, device=DEVICE, when=when,
                    seconds=truth.seconds(counted.layers, DEVICE, when))
        for counted in map(network, ("alexnet", "resnet18", "mobilenet_v2", "squeezenet1_1")) for when in PASSES
    ]  # fmt: skip
    fitted = calibration.fit(observations, form)
    assert fitted.values == pytest.approx(truth.values, rel=1e-6)
    unseen = network("densenet121")
    assert fitted.step_s(unseen, DEVICE) == pytest.approx(truth.step_s(unseen, DEVICE), rel=1e-6)


def test_no_rate_exceeds_the_peak_of_the_device():
    form = (Coefficient(term="compute", least=1.0), Coefficient(term="traffic", least=1.0))
    fast = [
        Observation(layers=counted.layers, device=DEVICE, when="forward", seconds=counted.forward_flops / 8.1e12 / 3)
        for counted in map(network, ("alexnet", "resnet18", "vgg11"))
    ]
    assert min(calibration.fit(fast, form).values) >= 1.0


def test_winograd_needs_fewer_multiplications_where_libraries_use_it():
    layers = [layer for layer in network("vgg11").layers if layer.kind == "conv"]
    first, second = (calibration.terms(layer, DEVICE, "forward", "fp32", True) for layer in layers[:2])
    plain = [calibration.terms(layer, DEVICE, "forward", "fp32", False) for layer in layers[:2]]
    assert first["compute"] == plain[0]["compute"]  # three channels
    assert second["compute"] == pytest.approx(plain[1]["compute"] / 2.25)


def test_first_layers_have_no_input_gradient():
    conv = network("vgg11").layers[0]
    assert len(calibration.products(conv, "backward")) == 1


def test_a_calibration_is_saved_and_read_back():
    fitted = Calibration(form=FORM, values=(1.0, 0.5, 100.0, 1.5, 1e-5), winograd=True)
    device = hardware.Device(
        name="x", bandwidth_gb_per_s=10, peak_tflops={"fp32": 1}, calibration={"fp32": calibration.to_store(fitted)}
    )
    again = calibration.stored(device, "fp32")
    counted = network("resnet18")
    assert again.step_s(counted, device) == fitted.step_s(counted, device)
    assert calibration.stored(device, "bf16") is None


def test_a_damaged_calibration_is_an_error_with_advice():
    device = hardware.Device(
        name="x",
        bandwidth_gb_per_s=10,
        peak_tflops={"fp32": 1},
        calibration={"fp32": {"coefficients": [{"term": "edge"}]}},
    )
    with pytest.raises(UserError, match="run distdl calibrate again"):
        calibration.stored(device, "fp32")


def test_kinds_of_layers_are_fitted_separately():
    """Per layer, as in `distdl calibrate`, on a device that is slow at norms and fast at convolutions."""
    slow = {"norm": 9.0, "activation": 2.0}
    truth = Calibration(
        form=(
            Coefficient(term="compute", least=1.0),
            *(Coefficient(term="traffic", kinds=frozenset({kind})) for kind in slow),
            Coefficient(term="layer"),
        ),
        values=(1.5, *slow.values(), 2e-5),
    )
    rng = np.random.default_rng(0)
    observations = [
        Observation(layers=[layer], device=DEVICE, when=when,
                    seconds=truth.seconds([layer], DEVICE, when) * rng.lognormal(sigma=0.05))
        for name in ("resnet18", "alexnet", "googlenet") for layer in network(name).layers for when in PASSES
        if layer.geometry.get("op") != "none"
    ]  # fmt: skip
    fitted = calibration.fit_by_kind(observations)
    unseen = network("resnet34")
    assert fitted.step_s(unseen, DEVICE) == pytest.approx(truth.step_s(unseen, DEVICE), rel=0.03)


def layer(kind, op, **geometry):
    shape = (4, 32, 28, 28)
    return Layer(
        name=op, kind=kind, input_shape=shape, output_shape=shape, read_bytes=400_000, write_bytes=400_000,
        geometry={"op": op, **geometry},
    )  # fmt: skip


def observation(timed_layer, seconds):
    return Observation(layers=[timed_layer], device=DEVICE, when="forward", seconds=seconds)


def test_each_operator_has_a_rate_and_an_unknown_one_that_of_its_kind():
    fast, slow, unknown = (layer("norm", op) for op in ("native_batch_norm", "local_response_norm", "group_norm"))
    fitted = calibration.fit_by_kind([observation(fast, 1e-5), observation(slow, 9e-5)])
    assert fitted.seconds([fast], DEVICE, "forward") == pytest.approx(1e-5)
    assert fitted.seconds([slow], DEVICE, "forward") == pytest.approx(9e-5)
    assert 1e-5 < fitted.seconds([unknown], DEVICE, "forward") < 9e-5


def test_an_operator_and_its_in_place_form_are_the_same():
    assert calibration.operator_of(layer("activation", "relu_")) == calibration.operator_of(layer("activation", "relu"))


def test_a_pools_time_grows_with_its_window():
    pools = {side: layer("pool", "max_pool2d", window=(side, side)) for side in (2, 3, 5)}
    fitted = calibration.fit_by_kind([observation(pools[2], 4e-5 + 1e-6), observation(pools[3], 9e-5 + 1e-6)])
    assert fitted.seconds([pools[5]], DEVICE, "forward") == pytest.approx(25e-5, rel=0.05)


def test_strided_convolutions_are_fitted_separately():
    strided = [item for item in network("resnet18").layers if "strided" in calibration.operator_of(item)]
    assert len(strided) == 7  # the first, and two at the start of each later stage


def test_an_unmeasured_kind_has_a_nonzero_time():
    dense = next(item for item in network("alexnet").layers if item.kind == "dense")
    fitted = calibration.fit_by_kind([observation(dense, 1e-4), observation(layer("elementwise", "add"), 1e-5)])
    assert fitted.seconds([replace(dense, kind="recurrent")], DEVICE, "forward") == pytest.approx(1e-4)
    assert fitted.seconds([layer("embedding", "embedding")], DEVICE, "forward") == pytest.approx(1e-5)


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_an_operator_that_moves_no_data_takes_no_time(when):
    view = Layer(name="view", kind="other", input_shape=(2,), output_shape=(2,), geometry={"op": "none"})
    assert calibration.terms(view, hardware.device("v100-sxm2"), when, "fp32", False) == {}
