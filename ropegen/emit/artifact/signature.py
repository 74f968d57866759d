"""Signatures: who made an artifact.

`manifest.sig` beside the manifest holds signatures of the content of `manifest.json`, by Ed25519, one for each key. The
manifest has the hash of every other file, so a signature vouches for the whole artifact. The file is JSON:

    {"ed25519": {"<public key, in hexadecimal>": "<signature, in hexadecimal>"}}

The keys are files as OpenSSL or OpenSSH makes them: `openssl genpkey -algorithm ed25519 -out maker.pem`, and
`openssl pkey -in maker.pem -pubout -out maker.pub`. The package `cryptography` computes; it is the extra `sign`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import msgspec

from ropegen.arguments import path_of
from ropegen.emit.artifact.manifest import MANIFEST, SIGNATURES
from ropegen.emit.artifact.place import put_file
from ropegen.errors import RopegenError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PublicKeys = Mapping[str, "Ed25519PublicKey"]

# A key or a list of signatures has a few hundred bytes.
_MOST_BYTES = 2**20

_PublicHex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_SignatureHex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]


class Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The schema of `manifest.sig`: the signature by public key."""

    ed25519: dict[_PublicHex, _SignatureHex]


def sign(folder: Path, content: bytes, key_file: Path) -> str:
    """Adds the signature of a manifest's content by the private key in a file, and returns the public key in hexadecimal.

    Raises:
      RopegenError: the file is no private key of Ed25519; the signatures that are there are damaged or of other content;
        or the directory cannot be written.
    """
    key = _private(key_file)
    public = _hex_of(key.public_key())
    path = folder / SIGNATURES
    there: dict[str, str] = {}
    if path.is_file():
        others = _signatures(path)
        there = {name: made for name, made in others.items() if name != public and _fits(name, made, content)}
    there[public] = key.sign(content).hex()
    try:
        put_file(msgspec.json.encode(Signatures(dict(sorted(there.items())))) + b"\n", folder, SIGNATURES)
    except OSError as error:
        raise RopegenError(f"cannot write {path}: {error.strerror or error}; make the directory writable") from error
    return public


def read_keys(keys: object) -> PublicKeys:
    """The public keys in one or several files, by their hexadecimal form.

    Raises:
      RopegenError: there is none, or a file cannot be read or is no public key of Ed25519.
    """
    one = isinstance(keys, str | PathLike)
    paths = [keys] if one else list(cast("Iterable[object]", keys)) if isinstance(keys, Iterable) else []
    if not paths:
        raise RopegenError(
            f"load: keys is {keys!r:.60}; give the files with the public keys of those whose artifacts you trust, or None"
        )
    read = [_public(path_of("load: a key of keys", path, "a public key is")) for path in paths]
    return {_hex_of(key): key for key in read}


def verify(folder: Path, content: bytes, keys: PublicKeys) -> None:
    """Refuses an artifact unless one of the keys signed the content of its manifest.

    Raises:
      RopegenError: it is not signed, not by any of these keys, or the signature is of other content.
    """
    path = folder / SIGNATURES
    if not path.is_file():
        raise RopegenError(f"{folder} is not signed; whoever made it signs it with `ropegen sign {folder} --key FILE`")
    signatures = _signatures(path)
    by = [name for name in signatures if name in keys]
    if not by:
        raise RopegenError(
            f"{folder} is signed by {', '.join(_short(name) for name in signatures) or 'nobody'}, and the keys that you "
            f"trust are {', '.join(_short(name) for name in keys)}; give its maker's key, if you trust them"
        )
    if not any(_fits(name, signatures[name], content) for name in by):
        raise RopegenError(
            f"{folder} is not what {_short(by[0])} signed: {MANIFEST} has changed since; get the artifact again"
        )


def _fits(public: str, made: str, content: bytes) -> bool:
    """Whether a signature is that of the content by the public key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(made), content)
    except InvalidSignature:
        return False
    return True


def _signatures(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(_content(path), type=Signatures).ed25519
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RopegenError(f"{path} holds no signatures ({error}); sign the artifact again") from error


def _private(path: Path) -> Ed25519PrivateKey:
    _expect_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = _content(path)
    is_ssh = content.startswith(b"-----BEGIN OPENSSH")
    try:
        load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
        key = load(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RopegenError(
            f"{path} holds no private key that can be read without a password ({error}); make one with `openssl genpkey "
            "-algorithm ed25519`"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RopegenError(
            f"{path} holds a key of another kind than Ed25519; make one with `openssl genpkey -algorithm ed25519`"
        )
    return key


def _public(path: Path) -> Ed25519PublicKey:
    _expect_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    content = _content(path)
    try:
        load = serialization.load_ssh_public_key if content.startswith(b"ssh-") else serialization.load_pem_public_key
        key = load(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RopegenError(
            f"{path} holds no public key ({error}); make it with `openssl pkey -in PRIVATE -pubout -out PUBLIC`"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise RopegenError(f"{path} holds a key of another kind than Ed25519; give the public key of the maker")
    return key


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RopegenError(f"cannot read {path}: {error.strerror or error}; give a file that can be read") from error
    if len(content) > _MOST_BYTES:
        raise RopegenError(f"{path} has more than {_MOST_BYTES} bytes, and no key has so many; give the file of a key")
    return content


def _expect_installed() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise RopegenError("signatures need the package cryptography, which is not installed; pip install cryptography")


def _hex_of(key: Ed25519PublicKey) -> str:
    return key.public_bytes_raw().hex()


def _short(public: str) -> str:
    """The start of a key, which is enough to tell keys apart."""
    return f"ed25519:{public[:16]}"
