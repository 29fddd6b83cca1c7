"""Versions: policies, labels, reloading while requests run, broken versions."""

import shutil
import threading
import time
import weakref

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from serving_samples import random_tracklet  # noqa: E402
from small_exports import copy_version  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kreid.serving import EmbeddingServer  # noqa: E402
from kreid.serving.refusal import RequestRefused  # noqa: E402
from kreid.serving.versions import AVAILABLE, END, UNLOADING, ServedVersions, VersionPolicy  # noqa: E402


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("latest", [5]),
        ("latest:2", [4, 5]),
        ("latest:99", [1, 4, 5]),
        ("all", [1, 4, 5]),
        ("4", [4]),
        ("5,1,5", [1, 5]),
        ("1,7", [1]),
    ],
)
def test_policies(text, chosen):
    assert VersionPolicy.parse(text).choose([1, 4, 5]) == chosen


@pytest.mark.parametrize("text", ["", "latest:0", "latest:-1", "latest:1.5", "newest", "3,", "3;5", "-3", " 3", "٣"])
def test_other_policies_are_refused(small_path, text):
    with pytest.raises(ValueError, match=r"'latest:N' .*Received: versions='"):
        EmbeddingServer(small_path, versions=text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"versions": "3,7"}, "no such version; it has 3. Received: versions=7"),
        ({"labels": {"stable": 7}}, "no such version; it has 3. Received: versions=7"),
        ({"poll_seconds": -1.0}, "Received: poll_seconds=-1.0"),
        ({"poll_seconds": float("nan")}, "Received: poll_seconds=nan"),
        ({"poll_seconds": float("inf")}, "Received: poll_seconds=inf"),
    ],
)
def test_arguments_that_fit_no_version_are_refused(small_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingServer(small_path, **arguments)


def test_a_label_needs_a_version_that_the_policy_serves(tmp_path):
    for version in (1, 2):
        (tmp_path / str(version)).mkdir()
    with pytest.raises(ValueError, match=r"only name a version that is served\. Received: label=stable=1, versions=2"):
        EmbeddingServer(tmp_path, labels={"stable": 1})


@pytest.fixture
def folder(small_export, tmp_path):
    copy_version(small_export, tmp_path, 1)
    return tmp_path


def served(folder, policy="latest", labels=None):
    versions = ServedVersions(folder, "kreid", VersionPolicy.parse(policy), labels or {})
    versions.load()
    return versions


def summary(versions):
    return [(state.number, state.state) for state in versions.states()]


def test_a_new_version_replaces_the_old_one_whose_requests_end_on_it(small_export, folder):
    versions = served(folder)
    with versions.use(None) as (number, old):
        assert number == 1
        copy_version(small_export, folder, 2)
        versions.poll()
        # The old one takes no further requests but still runs this one.
        assert summary(versions) == [(2, AVAILABLE), (1, UNLOADING)]
        with pytest.raises(RequestRefused, match=r"^Servable not found for request: Specific\(kreid, 1\)$"):
            versions.use(1).__enter__()
        outputs = old.run("describe", {"rows": np.zeros(1, np.int32)})
        assert outputs["card"].tolist() == [b"{}"]
    assert summary(versions) == [(2, AVAILABLE), (1, END)]
    with versions.use(None) as (number, new):
        assert (number, new.fingerprint) == (2, f"{2:064x}")
    versions.close()
    assert [state for _, state in summary(versions)] == [END, END]


def test_the_graph_of_an_old_version_is_freed(small_export, folder):
    versions = served(folder)
    with versions.use(None) as (_, model):
        graph = weakref.ref(model._session.graph)
        copy_version(small_export, folder, 2)
        versions.poll()
    del model
    versions.poll()
    assert graph() is None
    versions.close()


def test_a_version_that_is_wanted_again_while_its_last_request_runs_stays(small_export, folder):
    versions = served(folder)
    with versions.use(None) as (_, model):
        copy_version(small_export, folder, 2)
        versions.poll()
        shutil.rmtree(folder / "2")
        versions.reload(VersionPolicy(specific=(1,)), {})
        assert summary(versions) == [(2, END), (1, AVAILABLE)]
    with versions.use(1) as (_, again):
        assert again is model
    versions.close()


def test_a_broken_version_leaves_the_old_one_and_is_tried_again_when_it_changes(small_export, folder):
    versions = served(folder)
    copy_version(small_export, folder, 2, broken=True)
    versions.poll()
    assert summary(versions) == [(2, END), (1, AVAILABLE)]
    error = versions.states()[0].error
    assert "damaged weights, variables/variables.index" in error
    assert "copy its folder again" in error
    loads = []
    versions._changed = lambda state: loads.append(state.number)
    versions.poll()
    assert loads == []
    shutil.copy(small_export / "variables" / "variables.index", folder / "2" / "variables")
    versions.poll()
    assert summary(versions) == [(2, AVAILABLE), (1, END)]
    versions.close()


def test_a_start_beside_a_broken_version_serves_the_one_before(small_export, folder):
    copy_version(small_export, folder, 2, broken=True)
    versions = served(folder)
    assert summary(versions) == [(2, END), (1, AVAILABLE)]
    versions.close()


def test_a_folder_without_versions_unloads_nothing(small_export, folder):
    copy_version(small_export, folder, 2)
    versions = served(folder, "all")
    away = folder.rename(folder.with_name("away"))
    versions.poll()
    assert summary(versions) == [(2, AVAILABLE), (1, AVAILABLE)]
    shutil.rmtree(away / "1")
    away.rename(folder)
    versions.poll()
    assert summary(versions) == [(2, AVAILABLE), (1, END)]
    versions.close()


@pytest.fixture(scope="module")
def two_versions(small_export, tmp_path_factory):
    """A server of versions 1 and 2, of which 1 is stable; 4 is broken and not served."""
    folder = tmp_path_factory.mktemp("versions")
    copy_version(small_export, folder, 1)
    copy_version(small_export, folder, 2)
    copy_version(small_export, folder, 4, broken=True)
    with EmbeddingServer(folder, port=0, versions="1,2", labels={"stable": 1}, poll_seconds=0) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(two_versions):
    with grpc.insecure_channel(two_versions.target) as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


def predict(stub, **spec):
    import tensorflow as tf

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "kreid"
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    request.inputs["frames"].CopyFrom(tf.make_tensor_proto(random_tracklet(0, 2)[None]))
    return stub.Predict.with_call(request)


def metadata(call):
    return {key: value for key, value in call.trailing_metadata() if key.startswith("kreid-")}


@pytest.mark.parametrize(("spec", "version"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1)])
def test_every_answer_names_version_and_fingerprint(stubs, spec, version):
    response, call = predict(stubs[0], **spec)
    assert response.model_spec.version.value == version
    assert metadata(call) == {"kreid-version": str(version), "kreid-fingerprint": f"{version:064x}"}


def test_an_error_of_a_model_names_it_too(stubs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "kreid"
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].Predict(request)
    assert metadata(caught.value)["kreid-version"] == "2"


@pytest.mark.parametrize(
    ("spec", "code"),
    [({"label": "canary"}, "INVALID_ARGUMENT"), ({"version": 4}, "NOT_FOUND"), ({"version": -1}, "NOT_FOUND")],
)
def test_other_versions_and_labels_are_refused(stubs, spec, code):
    with pytest.raises(grpc.RpcError) as caught:
        predict(stubs[0], **spec)
    assert caught.value.code().name == code


def status(stub, **spec):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "kreid"
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    return [
        (item.version, item.state, item.status.error_message)
        for item in stub.GetModelStatus(request).model_version_status
    ]


def reload_request(name="kreid", base_path="", specific=(), labels=None, models=1):
    request = model_management_pb2.ReloadConfigRequest()
    for _ in range(models):
        model = request.config.model_config_list.config.add(name=name, base_path=base_path)
        if specific:
            model.model_version_policy.specific.versions.extend(specific)
        for label, version in (labels or {}).items():
            model.version_labels[label] = version
    return request


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (model_management_pb2.ReloadConfigRequest(), "must hold a model_config_list"),
        (reload_request(models=0), "must hold a model_config_list"),
        (reload_request(name="other"), "serves one model, kreid"),
        (reload_request(models=2), "serves one model, kreid"),
        (reload_request(base_path="/etc"), "serves one folder"),
        (reload_request(specific=[1, 9]), "no such version; it has 1, 2, 4. Received: versions=9"),
        (reload_request(specific=[1], labels={"stable": 2}), "A label may only name a version that is served"),
        (reload_request(specific=[1, 4]), "cannot be loaded"),
        (reload_request(), "cannot be loaded"),
    ],
    ids=["nothing", "no model", "another", "two", "another folder", "missing", "label", "broken", "latest is broken"],
)
def test_a_wrong_reload_request_changes_nothing(stubs, request_, message):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[1].HandleReloadConfigRequest(request_)
    assert (caught.value.code().name, message in caught.value.details()) == ("INVALID_ARGUMENT", True)
    assert [(number, state) for number, state, _ in status(stubs[1]) if state == AVAILABLE] == [(2, 30), (1, 30)]
    assert predict(stubs[0], label="stable")[0].model_spec.version.value == 1


def test_a_reload_request_changes_versions_and_labels_while_requests_run(stubs, two_versions):
    stopping, answered = threading.Event(), []

    def load():
        while not stopping.is_set():
            answered.append(predict(stubs[0])[0].model_spec.version.value)

    client = threading.Thread(target=load)
    client.start()

    def wait_for_an_answer_of(version):
        while version not in answered and client.is_alive():
            time.sleep(0.001)

    try:
        wait_for_an_answer_of(2)
        stubs[1].HandleReloadConfigRequest(reload_request(specific=[1], labels={"canary": 1}))
        assert [item[:2] for item in status(stubs[1], label="canary")] == [(1, AVAILABLE)]
        assert [number for number, state, _ in status(stubs[1]) if state == AVAILABLE] == [1]
        with pytest.raises(grpc.RpcError) as caught:
            status(stubs[1], label="stable")
        assert caught.value.details() == "Unrecognized servable version label: stable"
        wait_for_an_answer_of(1)
        base_path = str(two_versions.base_path)
        stubs[1].HandleReloadConfigRequest(reload_request(base_path=base_path, specific=[1, 2], labels={"stable": 1}))
        assert client.is_alive()  # no request has failed
    finally:
        stopping.set()
        client.join()
    assert predict(stubs[0])[0].model_spec.version.value == 2


def test_the_folder_is_polled_and_an_answer_never_fails(small_export, folder):
    with EmbeddingServer(folder, port=0, poll_seconds=0.1) as server, grpc.insecure_channel(server.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert predict(stub)[0].model_spec.version.value == 1
        copy_version(small_export, folder, 2)
        while predict(stub)[0].model_spec.version.value == 1:
            pass
        assert server.version == 2
