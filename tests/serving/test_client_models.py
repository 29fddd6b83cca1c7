"""Which model answered: versions, labels, fingerprints, and models that are exchanged under the client."""

import asyncio
import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("grpc")

from scripted_server import Model, ScriptedServer

from kreid.serving import AsyncEmbeddingClient, EmbeddingClient, Embeddings, ModelVersion, ServingError

OLD, NEW = "a1" * 32, "b2" * 32
FRAMES = np.zeros((2, 8, 4, 3), np.uint8)


class _InEventLoop:
    """An `AsyncEmbeddingClient` behind the methods of the other, so that both run the same tests."""

    def __init__(self, *arguments, **settings):
        self._loop = asyncio.new_event_loop()
        self._client = AsyncEmbeddingClient(*arguments, **settings)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *arguments, **settings: self._loop.run_until_complete(method(*arguments, **settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


@pytest.fixture(params=[EmbeddingClient, _InEventLoop], ids=["sync", "asyncio"])
def client_type(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["kreid server", "without metadata"])
def serving(request):
    with ScriptedServer({3: Model(OLD)}, headers=request.param) as server:
        yield server


def exchange(server, model=None, version=4):
    server.models[version] = model or Model(NEW)
    server.latest = version


def test_embeddings_name_their_model(serving, client_type):
    with client_type(serving.target) as client:
        embeddings = client.embed_frames([FRAMES, FRAMES[:1]])
        images, valid = client.embed_images([[b"\xff\xd8"], []])
        assert client.model_version() == ModelVersion("kreid", 3, OLD)
    for answer in (embeddings, images, embeddings[0]):
        assert (answer.version, answer.fingerprint, answer.model.name) == (3, OLD, "kreid")
    assert (embeddings.shape, embeddings.dtype, embeddings.tolist()) == ((2, 4), np.float32, [[3.0] * 4] * 2)
    assert valid.tolist() == [1, 0]
    assert np.isnan(images[1]).all()


def test_what_is_computed_from_embeddings_is_a_plain_array():
    """A concatenation of two models' embeddings must not bear the name of one."""
    embeddings = Embeddings(np.arange(6, dtype=np.float32).reshape(3, 2), ModelVersion("kreid", 3, OLD))
    others = Embeddings(np.ones((3, 2), np.float32), ModelVersion("kreid", 4, NEW))
    scaled = np.empty((3, 2), np.float32)
    np.multiply(embeddings, 2, out=scaled)
    results = [
        np.concatenate([embeddings, others]),
        np.where(embeddings > 1, embeddings, others),
        embeddings - others,
        embeddings.sum(axis=0),
        embeddings @ others.T,
        np.asarray(embeddings),
        scaled,
    ]
    assert [type(result) for result in results] == [np.ndarray] * len(results)
    np.testing.assert_array_equal(results[0], [[0, 1], [2, 3], [4, 5], [1, 1], [1, 1], [1, 1]])
    np.testing.assert_array_equal(scaled, [[0, 2], [4, 6], [8, 10]])
    for kept in (
        embeddings[1:],
        copy.copy(embeddings),
        copy.deepcopy(embeddings),
        pickle.loads(pickle.dumps(embeddings)),
    ):
        assert kept.model == ModelVersion("kreid", 3, OLD)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embeddings)), np.asarray(embeddings))


def test_a_model_exchanged_between_calls_is_noticed(serving, client_type):
    with client_type(serving.target) as client:
        client.embed_frames([FRAMES])
        exchange(serving, Model(NEW, dim=6))
        embeddings = client.embed_frames([FRAMES])
        assert (embeddings.shape, embeddings.version, embeddings.fingerprint) == ((1, 6), 4, NEW)
        assert client.card()["embedding_dim"] == 6


def test_no_answer_mixes_two_models(serving, client_type):
    """Both models have the same dimension; the second request of the call meets the new one."""
    with client_type(serving.target, frames_at_once=2) as client:
        client.card()
        serving.before = lambda signature, number: (signature, number) == ("embed_padded", 2) and exchange(serving)
        embeddings = client.embed_frames([FRAMES] * 3)
    assert embeddings.tolist() == [[4.0] * 4] * 3
    assert (embeddings.version, embeddings.fingerprint) == (4, NEW)
    assert serving.asked.count("embed_padded") == 5  # two with the first model in mind, then all three again


def test_models_that_keep_changing_are_an_error(serving, client_type):
    def flip(signature, number):
        if signature == "embed_padded":
            exchange(serving, version=4 + number)

    serving.before = flip
    with client_type(serving.target) as client, pytest.raises(ServingError) as caught:
        client.embed_frames([FRAMES])
    assert caught.value.code == "ABORTED"
    assert "the model changed twice during one call, from kreid version 5 (fingerprint b2b2b2b2b2b2)" in str(
        caught.value
    )
    assert "pin one (version, label or fingerprint)" in caught.value.hint


def test_another_model_under_the_same_number_is_noticed(client_type):
    with ScriptedServer({3: Model(OLD)}) as server, client_type(server.target) as client:
        assert client.embed_frames([FRAMES]).fingerprint == OLD
        server.models[3] = Model(NEW)
        assert client.embed_frames([FRAMES]).fingerprint == NEW


@pytest.mark.parametrize("sent", [(8, 4), (16, 8)], ids=["frames of the old size", "frames of the new size"])
def test_a_model_of_another_image_size_is_noticed(serving, client_type, sent):
    frames = np.zeros((1, *sent, 3), np.uint8)
    with client_type(serving.target) as client:
        client.card()
        exchange(serving, Model(NEW, image_size=(16, 8)))
        if sent == (16, 8):
            assert client.embed_frames([frames]).version == 4
        else:
            with pytest.raises(ValueError, match=r"Tracklet 0 must be uint8 \(frames, 16, 8, 3\)"):
                client.embed_frames([frames])


def test_an_error_of_the_request_itself_is_not_repeated(serving, client_type):
    def refuse(signature, number):
        if signature == "embed_padded":
            from scripted_server import Refused

            raise Refused("INVALID_ARGUMENT", "no")

    serving.before = refuse
    with client_type(serving.target) as client:
        for asked in (1, 2):  # with the first card, then with the card in memory
            with pytest.raises(ServingError, match="INVALID_ARGUMENT: no; compare the request"):
                client.embed_frames([FRAMES])
            assert serving.asked.count("embed_padded") == asked


def test_a_version_or_label_can_be_pinned(serving, client_type):
    exchange(serving)
    serving.labels = {"stable": 3, "canary": 4}
    for settings, version in (({"version": 3}, 3), ({"label": "stable"}, 3), ({"label": "canary"}, 4), ({}, 4)):
        with client_type(serving.target, **settings) as client:
            assert client.embed_frames([FRAMES]).version == version
            assert client.model_version().version == version


def test_a_label_that_moves_is_followed(serving, client_type):
    exchange(serving)
    serving.labels = {"stable": 3}
    with client_type(serving.target, label="stable") as client:
        assert client.embed_frames([FRAMES]).fingerprint == OLD
        serving.labels = {"stable": 4}
        assert client.embed_frames([FRAMES]).fingerprint == NEW


def test_a_pinned_fingerprint_is_found_among_the_versions(serving, client_type):
    with client_type(serving.target, fingerprint=OLD[:12].upper()) as client:
        assert client.embed_frames([FRAMES]).version == 3
        exchange(serving)  # the old version is still offered
        assert client.embed_frames([FRAMES]).version == 3
        serving.models[7] = serving.models.pop(3)  # the same weights under another number
        assert client.embed_frames([FRAMES]).version == 7
        del serving.models[7]
        with pytest.raises(ServingError) as caught:
            client.embed_frames([FRAMES])
    assert caught.value.code == "NOT_FOUND"
    assert f"fingerprint {OLD[:12]}; it has kreid version 4 (fingerprint {NEW[:12]})" in caught.value.message


def test_a_pinned_version_that_is_gone_is_the_servers_error(serving, client_type):
    with client_type(serving.target, version=3) as client:
        client.embed_frames([FRAMES])
        serving.models = {4: Model(NEW)}
        with pytest.raises(ServingError, match=r"Specific\(kreid, 3\)"):
            client.embed_frames([FRAMES])


def test_exports_without_a_fingerprint_are_known_by_their_version(client_type):
    with ScriptedServer({3: Model(None)}) as server, client_type(server.target) as client:
        assert client.embed_frames([FRAMES]).model == ModelVersion("kreid", 3, None)
        assert str(client.model_version()) == "kreid version 3 (no fingerprint)"
        exchange(server, Model(None, dim=5))
        assert client.embed_frames([FRAMES]).shape == (1, 5)
    with (
        ScriptedServer({3: Model(None)}) as server,
        client_type(server.target, fingerprint=OLD) as client,
        pytest.raises(ServingError, match="no version that the server offers has fingerprint"),
    ):
        client.card()


def test_any_signature_can_be_asked(serving, client_type):
    with client_type(serving.target) as client:
        outputs, model = client.predict("describe", {"rows": np.zeros(2, np.int32)})
    assert outputs["card"].shape == (2,)
    assert model == ModelVersion("kreid", 3, OLD)


def test_requests_hold_no_more_frames_than_asked_for(serving, client_type):
    with client_type(serving.target, frames_at_once=6) as client:
        client.embed_images([[b"\xff\xd8"] * frames for frames in (2, 3, 1, 9, 1, 1)])
    assert serving.lengths == [[2, 3], [1], [9], [1, 1]]


def test_a_tracklet_that_is_refused_is_named(serving, client_type):
    """A server that merges requests answers the others, and -1 for this one."""
    with client_type(serving.target) as client:
        for call, long, short in (
            (client.embed_frames, np.zeros((65, 8, 4, 3), np.uint8), FRAMES),
            (client.embed_images, [b"\xff\xd8"] * 65, [b"\xff\xd8"]),
        ):
            with pytest.raises(ServingError) as caught:
                call([short, long, short])
            assert caught.value.code == "INVALID_ARGUMENT"
            assert caught.value.message == "tracklet 1 has 65 frames, and the model takes at most 64"
            assert caught.value.hint.startswith("thin the tracklet to the frame_limit")


def test_a_tracklet_without_room_in_a_batch_is_sent_again_alone(serving, client_type):
    serving.room = 5
    with client_type(serving.target) as client:
        embeddings, valid = client.embed_images([[b"\xff\xd8"] * frames for frames in (3, 2, 4)])
        assert (embeddings.tolist(), valid.tolist()) == ([[3.0] * 4] * 3, [3, 2, 4])
        assert serving.lengths == [[3, 2, 4], [4]]
        with pytest.raises(ServingError) as caught:
            client.embed_images([[b"\xff\xd8"] * 6])
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert "no room for tracklet 0 of 6 frames" in caught.value.message
    assert caught.value.hint.startswith("the server is busy")


def test_pairs_of_embeddings_are_decided(client_type):
    with ScriptedServer({3: Model(OLD, decides=True)}) as server, client_type(server.target) as client:
        embeddings = client.embed_frames([FRAMES, FRAMES])
        decided = client.same_person(embeddings, [[3, 3, 3, 3], [4, 3, 3, 3]])
        np.testing.assert_allclose(decided.distance, [0, 1])
        np.testing.assert_allclose(decided.probability, np.exp([0, -1]), rtol=1e-6)
        assert decided.same_person.tolist() == [True, False]
        assert decided.model == ModelVersion("kreid", 3, OLD)
        with pytest.raises(ValueError, match=r"equal shape.* Received: second of shape \(1, 4\)"):
            client.same_person(embeddings, embeddings[:1])
        exchange(server, Model(NEW, decides=True))
        with pytest.raises(ValueError, match=r"`first` was made by another model than the one that answers, kreid ver"):
            client.same_person(embeddings, np.asarray(embeddings))
        exchange(server, Model("c3" * 32), version=5)
        with pytest.raises(
            ValueError, match=r"This model has no signature same_person. No threshold. Received: model kreid"
        ):
            client.same_person(np.asarray(embeddings), np.asarray(embeddings))


def test_calls_run_at_once_over_one_connection(serving):
    async def run():
        async with AsyncEmbeddingClient(serving.target) as client:
            return await asyncio.gather(*[client.embed_frames([FRAMES] * count) for count in (1, 2, 3)])

    assert [len(embeddings) for embeddings in asyncio.run(run())] == [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": ""}, "`target` must be host:port"),
        ({"target": "https://gpu7:8500"}, "Received: target='https://gpu7:8500'"),
        ({"target": "localhost"}, "port from 1 to 65535. Received: target='localhost'"),
        ({"target": ":8500"}, "Received: target=':8500'"),
        ({"target": "127.0.0.1:99999"}, "port from 1 to 65535"),
        ({"target": "dns:///gpu7"}, "port from 1 to 65535"),
        ({"target": "ipv4:10.0.0.1:8500,10.0.0.2:0"}, "port from 1 to 65535"),
        ({"target": "::1:8500"}, r"IPv6 address in brackets, as in \[::1\]:8500"),
        ({"model": ""}, "`model` must be"),
        ({"timeout": 0}, "Received: timeout=0"),
        ({"timeout": float("nan")}, "Received: timeout=nan"),
        ({"timeout": "30"}, "Received: timeout='30'"),
        ({"version": "3"}, "Received: version='3'"),
        ({"version": True}, "Received: version=True"),
        ({"tls": "ca.pem"}, r"`tls` must be True, or Tls\(ca=...\)"),
        ({"retry": 3}, "`retry` must be a Retry"),
        ({"version": 3, "label": "stable"}, "Received: version=3, label='stable'"),
        ({"label": ""}, "`label` must not be empty"),
        ({"fingerprint": "a1b2"}, "first 8 or more hexadecimal digits. Received: fingerprint='a1b2'"),
        ({"fingerprint": "not hexadecimal"}, "hexadecimal"),
        ({"max_message_bytes": 2**31}, "Received: max_message_bytes=2147483648"),
        ({"frames_at_once": 0}, "Received: frames_at_once=0"),
        ({"keepalive": 0}, "Received: keepalive=0"),
    ],
)
@pytest.mark.parametrize("kind", [EmbeddingClient, AsyncEmbeddingClient])
def test_arguments_out_of_range_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_grpcs_own_targets_are_taken(serving):
    for target in (f"dns:///localhost:{serving.port}", f"ipv4:127.0.0.1:{serving.port}"):
        with EmbeddingClient(target, token="x") as client:
            assert client.embed_frames([FRAMES]).version == 3
    EmbeddingClient("unix:/run/kreid.sock", token="x").close()
