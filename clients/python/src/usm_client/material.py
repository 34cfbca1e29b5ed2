"""Key material of a leased session. Whoever has it can act as the account: it shows in no ``repr``."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.descriptor import EnumDescriptor

from usm.v1 import material_pb2

_PREFIX = "SESSION_FORMAT_"
_STRINGS = {"TELETHON_STRING", "PYROGRAM_STRING", "GRAMJS_STRING", "MTCUTE_STRING"}


@dataclass(frozen=True)
class Device:
    """Device parameters to connect with, exactly as given; empty ones were not recorded."""

    device_model: str = ""
    system_version: str = ""
    app_version: str = ""
    lang_code: str = ""
    system_lang_code: str = ""
    lang_pack: str = ""


@dataclass(frozen=True)
class Proxy:
    """Proxy to connect through; ``kind`` is ``SOCKS5``, ``HTTP`` or ``MTPROTO``."""

    kind: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Material:
    """A session in the format that was asked for, and what belongs to its authorization."""

    format: str
    """Name of ``usm.v1.SessionFormat`` without ``SESSION_FORMAT_``."""
    data: bytes = field(repr=False)
    api_id: int
    device: Device
    proxy: Proxy | None
    dc_id: int
    material_version: int
    environment: str

    def session_string(self) -> str:
        """The session as text, for the formats that are one."""
        if self.format not in _STRINGS:
            raise ValueError(f"material in the format {self.format} is no string")
        try:
            return self.data.decode("ascii")
        except UnicodeDecodeError:
            raise ValueError("the material is no session string") from None

    @classmethod
    def from_message(cls, message: material_pb2.SessionMaterial) -> Material:
        device, proxy = message.device, message.proxy
        return cls(
            format=format_name(message.format),
            data=message.data,
            api_id=message.api_id,
            device=Device(
                device_model=device.device_model,
                system_version=device.system_version,
                app_version=device.app_version,
                lang_code=device.lang_code,
                system_lang_code=device.system_lang_code,
                lang_pack=device.lang_pack,
            ),
            proxy=Proxy(
                kind=enum_name(material_pb2.ProxyKind.DESCRIPTOR, proxy.kind, "PROXY_KIND_"),
                host=proxy.host,
                port=proxy.port,
                username=proxy.username,
                password=proxy.password,
            )
            if message.HasField("proxy")
            else None,
            dc_id=message.dc_id,
            material_version=message.material_version,
            environment=message.environment,
        )


def format_name(number: int) -> str:
    """``TELETHON_STRING`` for ``SESSION_FORMAT_TELETHON_STRING``; the number for one this version does not know."""
    return enum_name(material_pb2.SessionFormat.DESCRIPTOR, number, _PREFIX)


def format_number(name: str) -> material_pb2.SessionFormat.ValueType:
    """The reverse, with or without the prefix."""
    try:
        return material_pb2.SessionFormat.Value(name if name.startswith(_PREFIX) else _PREFIX + name)
    except ValueError:
        known = ", ".join(sorted(key[len(_PREFIX) :] for key in material_pb2.SessionFormat.keys()))
        raise ValueError(f"unknown session format {name!r}; known: {known}") from None


def enum_name(descriptor: EnumDescriptor, number: int, prefix: str) -> str:
    """The name of a value without its prefix; the number for one this version does not know."""
    value = descriptor.values_by_number.get(number)
    return str(number) if value is None else value.name[len(prefix) :]
