"""What an object store's refusals mean, in one line each: what happened and what to do.

obstore's own messages carry XML, timings and debugging output over many lines. The facts in them are kept.
"""

import contextlib
import re
from collections.abc import Iterator

from obstore.exceptions import BaseError, PreconditionError

from tarloom.errors import StorageError, first_line

METADATA_SERVICES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
"""Where clouds hand out credentials to their own machines: asked last, when the environment holds none."""
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
OF_ALL_STATUSES = ("401", "407", "408", "429")
OF_ALL_CODES = (
    *NO_BUCKET,
    *("AccountProblem", "AllAccessDisabled", "AuthenticationFailed", "AuthorizationHeaderMalformed", "ExpiredToken"),
    *("InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired"),
)
"""Refusals (4NN) that would meet any request: of credentials and clocks, or for now."""
ENDS_BEFORE = "ends before a range that was asked for"


@contextlib.contextmanager
def translated(where: str, *, absent_is_error: bool = False) -> Iterator[None]:
    """obstore's errors as StorageError. An absent object stays FileNotFoundError unless it is an error here."""
    try:
        yield
    except FileNotFoundError as error:
        if _code(error) in NO_BUCKET or absent_is_error:
            raise StorageError(f"{where}: {_reason(error)}") from error
        raise
    except (BaseError, PermissionError) as error:
        raise StorageError(f"{where}: {_reason(error)}") from error


def is_of_one_object(error: BaseException | None) -> bool:
    """Whether a store's refusal is of the object that was asked for, and others may be had: absent, or not for us."""
    status = _found(r"status code: (\d{3})", str(error))
    return status.startswith("4") and status not in OF_ALL_STATUSES and _code(error) not in OF_ALL_CODES


def _reason(error: BaseException) -> str:
    message = first_line(error)
    code, status = _code(error), _found(r"status code: (\d{3}[\w ]*)", message)
    if any(host in message for host in METADATA_SERVICES):
        return "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or GOOGLE_*, AZURE_*)"
    if "Account must be specified" in message:
        return "no storage account is named; set AZURE_STORAGE_ACCOUNT_NAME"
    if code in NO_BUCKET:
        return "there is no such bucket; create it or correct the address"
    if code == "InvalidRange" or "Wanted range starting at" in message:
        return f"{ENDS_BEFORE}; it was cut short or replaced meanwhile"
    if isinstance(error, FileNotFoundError):
        return "no such object"
    if isinstance(error, PreconditionError):
        return "is another file now than when it was listed; open the dataset again"
    if status and status[:3] in ("401", "403"):
        return f"refused ({code or status.strip()}); check the credentials and what they are allowed to do"
    if "error sending request" in message:
        server = _found(r"https?://([^/ ?]+)", message) or "the server"
        return f"no answer from {server}; check the endpoint (AWS_ENDPOINT_URL, AZURE_STORAGE_ENDPOINT) and the network"
    if "response body" in message:
        return "the answer broke off or stalled again and again; check the network, or try again later"
    if code == "SlowDown" or (status and status.startswith("503")):
        return f"the server wants fewer requests ({code or status.strip()}); use fewer workers, or try again later"
    return f"{code or message.partition(': <?xml')[0]}; check the address and the credentials"


def _code(error: BaseException | None) -> str:
    """The store's own word for what went wrong, "" where the answer had none."""
    return _found(r"<Code>(\w+)</Code>", str(error))


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
