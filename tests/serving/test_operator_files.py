"""The files in serving/: each is read by the parser or schema of its program, and they agree with each other."""

import http.server
import os
import re
import stat
import subprocess
import sys
import threading

import pytest
import yaml

text_format = pytest.importorskip("google.protobuf.text_format")
pytest.importorskip("tensorflow_serving.apis")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402
from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

MODEL_CONFIG = "tensorflow_serving/models.config"

# Messages that the package tensorflow-serving-api lacks, with TensorFlow Serving's names and numbers.
MESSAGES = {
    "Int64Value": {"value": (1, "INT64")},
    "BatchingParameters": {
        "max_batch_size": (1, "Int64Value"),
        "batch_timeout_micros": (2, "Int64Value"),
        "max_enqueued_batches": (3, "Int64Value"),
        "num_batch_threads": (4, "Int64Value"),
        "pad_variable_length_inputs": (7, "BOOL"),
    },
    "PrometheusConfig": {"enable": (1, "BOOL"), "path": (2, "STRING")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, "STRING"),
        "server_cert": (2, "STRING"),
        "custom_ca": (3, "STRING"),
        "client_verify": (4, "BOOL"),
    },
}


@pytest.fixture(scope="module")
def folder(repository):
    return repository / "serving"


@pytest.fixture(scope="module")
def messages():
    file = descriptor_pb2.FileDescriptorProto(name="operator.proto", package="operator", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=1)
            if kind in MESSAGES:
                added.type, added.type_name = added.TYPE_MESSAGE, f".operator.{kind}"
            else:
                added.type = getattr(added, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"operator.{name}")) for name in MESSAGES}


@pytest.fixture(scope="module")
def compose(folder):
    """The compose file with its variables filled in, read by a library for the Compose specification."""
    text = (folder / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed == {"KREID_EXPORTS"}
    filled = re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda found: found[3] if found[2] == "-" else "/exports", text)
    assert "${" not in filled
    parsed = pytest.importorskip("compose_spec").PyCompose.from_yaml(filled)
    assert sorted(parsed.service_names()) == ["prometheus", "tensorflow_serving"]
    return yaml.safe_load(filled)


@pytest.fixture(scope="module")
def manifests(folder):
    documents = list(yaml.safe_load_all((folder / "kubernetes" / "kreid.yaml").read_text()))
    return {document["kind"]: document for document in documents}


def container(manifests):
    return manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]


def test_the_model_config_has_labels(folder):
    config = text_format.Parse((folder / MODEL_CONFIG).read_text(), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("kreid", "/models/kreid", "tensorflow")
    assert dict(model.version_labels) == {"stable": 1}
    assert model.model_version_policy.latest.num_versions == 2


def test_the_batching_config_pads(folder, messages):
    text = (folder / "tensorflow_serving" / "batching.config").read_text()
    config = text_format.Parse(text, messages["BatchingParameters"]())
    assert config.pad_variable_length_inputs
    assert (config.max_batch_size.value, config.num_batch_threads.value) == (16, 2)


def test_metrics_are_scraped_where_they_are_served(folder, messages, compose, manifests):
    text = (folder / "tensorflow_serving" / "monitoring.config").read_text()
    served = text_format.Parse(text, messages["MonitoringConfig"]()).prometheus_config
    assert served.enable
    scraped = {
        job["job_name"]: job for job in yaml.safe_load((folder / "prometheus.yaml").read_text())["scrape_configs"]
    }
    assert scraped["tensorflow_serving"]["metrics_path"] == served.path
    (target,) = scraped["tensorflow_serving"]["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert f"127.0.0.1:{port}:{port}" in compose["services"][service]["ports"]
    annotations = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert (annotations["prometheus.io/path"], annotations["prometheus.io/port"]) == (served.path, port)


def test_every_flag_that_names_a_file_names_one_that_is_mounted(folder, compose, manifests):
    flags = compose["services"]["tensorflow_serving"]["command"].split()
    assert "./tensorflow_serving:/etc/kreid:ro" in compose["services"]["tensorflow_serving"]["volumes"]
    for arguments in (flags, container(manifests)["args"]):
        files = [flag.split("=", 1)[1] for flag in arguments if "=/etc/kreid/" in flag]
        assert len(files) == 3
        for file in files:
            assert (folder / "tensorflow_serving" / file.removeprefix("/etc/kreid/")).is_file()
    # The same server on one machine and in a cluster.
    same = [flag for flag in container(manifests)["args"] if not flag.startswith("--grpc_channel_arguments")]
    assert sorted(flags) == sorted(same)
    assert container(manifests)["image"] == compose["services"]["tensorflow_serving"]["image"]


def test_ports_are_published_on_loopback_only(compose):
    ports = [port for service in compose["services"].values() for port in service["ports"]]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_milvus_has_a_password_and_loopback_ports(folder):
    text = (folder / "milvus" / "compose.yaml").read_text()
    assert re.findall(r"\$\{(\w+):\?", text) == ["MILVUS_ROOT_PASSWORD"]
    filled = re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda found: found[3] if found[2] == "-" else "secret", text)
    parsed = pytest.importorskip("compose_spec").PyCompose.from_yaml(filled)
    assert list(parsed.service_names()) == ["milvus"]
    service = yaml.safe_load(filled)["services"]["milvus"]
    assert service["ports"] == ["127.0.0.1:19530:19530"]
    assert service["environment"]["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"
    (etcd,) = [volume.split(":") for volume in service["volumes"] if volume.startswith("./")]
    assert service["environment"]["ETCD_CONFIG_PATH"] == etcd[1]
    addresses = yaml.safe_load((folder / "milvus" / etcd[0]).read_text())
    assert addresses["listen-client-urls"] == addresses["advertise-client-urls"] == "http://127.0.0.1:2379"


@pytest.mark.parametrize(("state", "healthy"), [("AVAILABLE", True), ("LOADING", False)])
def test_the_health_check_reads_the_state(compose, state, healthy):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/v1/models/kreid"
            body = f'{{"model_version_status": [{{"version": "1", "state": "{state}"}}]}}'.encode()
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(body if found else b"")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        kind, *command = compose["services"]["tensorflow_serving"]["healthcheck"]["test"]
        assert kind == "CMD"
        ran = subprocess.run([part.replace("8501", str(server.server_port)) for part in command])
        thread.join()
    assert (ran.returncode == 0) == healthy


def test_the_manifests_fit_the_schemas_of_kubernetes(manifests):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    assert set(manifests) >= {"Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy"}
    for version in ("1.30", kubernetes_validate.latest_version()):
        for manifest in manifests.values():
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_manifests_agree_with_each_other(folder, manifests):
    pod = manifests["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"] for port in manifests["Service"]["spec"]["ports"]} <= set(ports)
    for probe in ("startupProbe", "readinessProbe"):
        assert container(manifests)[probe]["httpGet"] == {"path": "/v1/models/kreid/metadata", "port": "rest"}
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container(manifests)["volumeMounts"]} == volumes
    claim = manifests["PersistentVolumeClaim"]["metadata"]["name"]
    assert claim in [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["spec"]["volumes"]]
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", manifests["Deployment"]["metadata"]["name"])
    # The autoscaler asks for the metric that the adapter offers.
    adapter = yaml.safe_load((folder / "kubernetes" / "prometheus-adapter.yaml").read_text())
    asked = [
        m["pods"]["metric"]["name"] for m in manifests["HorizontalPodAutoscaler"]["spec"]["metrics"] if "pods" in m
    ]
    assert asked == [rule["name"]["as"] for rule in adapter["rules"]["custom"]]


def test_envoy_accepts_its_config(folder, certificates, tmp_path):
    pytest.importorskip("envoy")
    from envoy_samples import envoy_path, write_envoy_config

    config = write_envoy_config(folder, tmp_path, certificates["server"], {}, "127.0.0.1:8500")
    ran = subprocess.run([envoy_path(), "--mode", "validate", "-c", config], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def ssl_config(folder, *arguments):
    command = [sys.executable, folder / "ssl_config.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_the_ssl_config_has_the_files(folder, messages, certificates, tmp_path):
    server, authority = certificates["server"], certificates["authority"]
    out = tmp_path / "ssl.config"
    arguments = ["--cert", server.path, "--key", server.key_path, "--out", out]
    for more, client_ca in ((["--client-ca", authority.path], authority.pem.decode()), ([], "")):
        ran = ssl_config(folder, *arguments, *more)
        assert (ran.returncode, ran.stdout) == (0, f"wrote {out}\n")
        config = text_format.Parse(out.read_text(), messages["SSLConfig"]())
        assert config.server_cert == server.pem.decode()
        assert config.server_key == server.key_pem.decode()
        assert (config.custom_ca, config.client_verify) == (client_ca, bool(client_ca))
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["ssl.config"]


def test_wrong_files_are_one_sentence(folder, certificates, tmp_path):
    server, authority = certificates["server"], certificates["authority"]
    out = tmp_path / "ssl.config"
    for arguments in (
        ["--cert", server.path, "--key", authority.key_path],
        ["--cert", tmp_path / "none", "--key", server.key_path],
        ["--cert", server.path, "--key", server.key_path, "--client-ca", server.key_path],
    ):
        ran = ssl_config(folder, *arguments, "--out", out)
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert f"Received: --cert={arguments[1]}" in ran.stderr
    ran = ssl_config(folder, "--cert", server.path, "--key", server.key_path, "--out", tmp_path / "none" / "x")
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []
