"""A gRPC server whose models a test exchanges at will: it answers with numbers, not with a network.

It speaks the protocol on a real port, with and without the fingerprint in the answers' metadata, so that tests can
exchange a model in the middle of a client's call.
"""

import concurrent.futures
import json
from typing import NamedTuple

import grpc
import numpy as np

from kreid.serving import wire


class Model(NamedTuple):
    fingerprint: str | None
    dim: int = 4
    image_size: tuple[int, int] = (8, 4)
    frame_limit: int = 64
    decides: bool = False

    @property
    def card(self):
        card = {"embedding_dim": self.dim, "image_size": list(self.image_size), "frame_limit": self.frame_limit}
        card |= {"metric": "euclidean", "verification": None, "fingerprint": self.fingerprint}
        # The names are enough for clients.
        signatures = ["describe", "embed_jpeg", "embed_padded", *(["same_person"] if self.decides else [])]
        return {**card, "signatures": signatures, "lacks": {} if self.decides else {"same_person": "No threshold."}}


class Refused(Exception):
    def __init__(self, code, message):
        self.code, self.message = code, message


class ScriptedServer(grpc.GenericRpcHandler):
    """Serves `models` by version; `latest`, `labels`, `token` and `before` may change at any time.

    `before(signature, number)` is called before the number-th request to a signature is answered, from 1.
    Embeddings are the version's number in each place.
    """

    def __init__(self, models, headers=True, token=None, credentials=None, address="127.0.0.1:0"):
        self.models = dict(models)
        self.latest = max(self.models)
        self.labels = {}
        self.headers = headers
        self.token = token
        self.before = lambda signature, number: None
        self.room = None  # frames in a batch; the rows after them are refused, as by a server that merges requests
        self.asked = []  # signatures
        self.lengths = []  # of the tracklets of each request
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), [self], options=[("grpc.so_reuseport", 0)])
        add = self._server.add_insecure_port if credentials is None else self._server.add_secure_port
        self.port = add(address, *([] if credentials is None else [credentials]))
        self.target = f"127.0.0.1:{self.port}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()

    def service(self, details):
        kinds = {
            wire.PREDICT: ("PredictRequest", self._predict),
            wire.GET_MODEL_STATUS: ("StatusRequest", self._status),
        }
        if details.method not in kinds:
            return None
        kind, answer = kinds[details.method]

        def call(request, context):
            try:
                if (
                    self.token is not None
                    and dict(details.invocation_metadata).get("authorization") != f"Bearer {self.token}"
                ):
                    raise Refused("UNAUTHENTICATED", "a token is needed")
                return answer(request, context)
            except Refused as refused:
                return context.abort(grpc.StatusCode[refused.code], refused.message)

        return grpc.unary_unary_rpc_method_handler(
            call, wire.messages()[kind].FromString, lambda response: response.SerializeToString()
        )

    def _predict(self, request, context):
        spec = request.model_spec
        self.asked.append(spec.signature_name)
        self.before(spec.signature_name, self.asked.count(spec.signature_name))
        version = spec.version.value if spec.HasField("version") else self.labels.get(spec.version_label, self.latest)
        if version not in self.models:
            raise Refused("NOT_FOUND", f"Servable not found for request: Specific(kreid, {version})")
        model = self.models[version]
        inputs = {name: wire.read_tensor(tensor) for name, tensor in request.inputs.items()}
        response = wire.messages()["PredictResponse"]()
        response.model_spec.version.value = version
        for name, values in self._outputs(version, model, spec.signature_name, inputs).items():
            wire.fill_tensor(response.outputs[name], values)
        if self.headers and model.fingerprint is not None:
            context.set_trailing_metadata((("kreid-version", str(version)), ("kreid-fingerprint", model.fingerprint)))
        return response

    def _outputs(self, version, model, signature, inputs):
        if signature == "describe":
            return {"card": np.array([json.dumps(model.card).encode()] * len(inputs["rows"]), object)}
        if signature == "same_person":
            distance = np.linalg.norm(inputs["first"] - inputs["second"], axis=1)
            return {"distance": distance, "probability": np.exp(-distance), "same_person": distance < 0.5}
        self.lengths.append(inputs["lengths"].tolist())
        embedding = np.full((len(inputs["lengths"]), model.dim), version, np.float32)
        if signature == "embed_padded" and inputs["frames"].shape[2:4] != model.image_size:
            raise Refused("INVALID_ARGUMENT", "Shape of input frames is not compatible with expected shape")
        refused = inputs["lengths"] > model.frame_limit
        if self.room is not None:
            refused |= np.cumsum(inputs["lengths"]) > self.room
        embedding[refused] = np.nan
        return {"embedding": embedding, "valid_frames": np.where(refused, -1, inputs["lengths"]).astype(np.int32)}

    def _status(self, request, context):
        response = wire.messages()["StatusResponse"]()
        for version in sorted(self.models, reverse=True):
            response.model_version_status.add(version=version, state=30)
        return response
