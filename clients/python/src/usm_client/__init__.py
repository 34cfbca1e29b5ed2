"""Client of the Unified Session Manager.

``Client`` calls the services, ``Client.lease`` borrows a session and keeps it while a block runs,
``usm_client.telethon`` connects a Telethon client with it. The generated messages and stubs are in ``usm.v1``.
"""

from .client import Client
from .errors import LeaseLost, UsmError
from .lease import Lease
from .material import Device, Material, Proxy

__all__ = ["Client", "Device", "Lease", "LeaseLost", "Material", "Proxy", "UsmError"]
