"""Write TensorFlow Serving's SSL config, a text file that has the certificate and the key in it.

    python serving/ssl_config.py --cert server.pem --key server.key

By default it is written to serving/tensorflow_serving/ssl.config, where compose.yaml finds it, readable by its owner
alone. Start TensorFlow Serving with `--ssl_config_file=/etc/kreid/ssl.config`. Clients then need
`EmbeddingClient(target, tls=Tls(ca="ca.pem"))`.

Exit status: 0 success, 2 wrong usage or input.
"""

import argparse
import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path


def ssl_config(cert: Path, key: Path, client_ca: Path | None) -> str:
    """Return the config as text.

    Args:
        cert: PEM file of the server's certificate and the chain above it.
        key: PEM file of its private key, without a password.
        client_ca: PEM file of the authorities of clients' certificates; then each client needs one.

    Returns:
        A str in protobuf's text format.

    Raises:
        OSError: if a file cannot be read, or is no PEM file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key, password="")
    fields = {"server_key": key, "server_cert": cert}
    if client_ca is not None:
        context.load_verify_locations(cafile=client_ca)
        fields["custom_ca"] = client_ca
    lines = []
    for name, path in fields.items():
        # Adjacent strings are one, as in C.
        text = "\n".join(f'  "{line}\\n"' for line in path.read_text(encoding="ascii").splitlines())
        lines.append(f"{name}:\n{text}")
    lines.append(f"client_verify: {'true' if client_ca is not None else 'false'}")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cert", type=Path, required=True, help="PEM file of the server's certificate")
    parser.add_argument("--key", type=Path, required=True, help="PEM file of its private key")
    parser.add_argument("--client-ca", type=Path, help="PEM file of authorities; every client then needs a certificate")
    default = Path(__file__).parent / "tensorflow_serving" / "ssl.config"
    parser.add_argument("--out", type=Path, default=default, help="file to write (default: %(default)s)")
    options = parser.parse_args(argv)
    received = f"Received: --cert={options.cert}, --key={options.key}, --client-ca={options.client_ca}"
    try:
        text = ssl_config(options.cert, options.key, options.client_ca)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        print(
            "ssl_config: --cert and --key must be PEM files that belong together, the key without a password, and "
            f"--client-ca one of certificates ({reason}). {received}",
            file=sys.stderr,
        )
        return 2
    temporary = options.out.with_name(f".writing-{options.out.name}-{os.getpid()}")
    try:
        # The key is in it.
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
        os.replace(temporary, options.out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        print(f"ssl_config: {error}. Received: --out={options.out}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
