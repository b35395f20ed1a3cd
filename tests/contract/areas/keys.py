"""KMS: keys, aliases, signatures."""

from __future__ import annotations

import hashlib

from localcloud.settings import ACCOUNT
from tests.contract.rows import Answer, Refused, Row, Step, row

MESSAGE = b"message"
DIGEST = hashlib.sha256(MESSAGE).digest()
ALGORITHM = {"KeyId": "$signing", "SigningAlgorithm": "ECDSA_SHA_256"}
NONE = "00000000-0000-0000-0000-000000000000"


GRANTS = "kms/latest/developerguide/grants.html"
STATES = "kms/latest/developerguide/key-state.html"
DISABLED = (Step("kms:DisableKey", {"KeyId": "$encrypting"}),)
SIGNED = Step("kms:Sign", {**ALGORITHM, "Message": MESSAGE}, keep={"signature": "Signature"})
ENCRYPTED = Step("kms:Encrypt", {"KeyId": "$encrypting", "Plaintext": b"secret"}, keep={"secret": "CiphertextBlob"})
PLAIN = {"KeyId": "$encrypting", "Plaintext": b"secret"}


def granted(operation: str, constraints: dict[str, object] | None = None) -> Step:
    """Grant an operation to the user whom nothing else is allowed."""
    grantee = f"arn:aws:iam::{ACCOUNT}:user/$user"
    request = {
        "KeyId": "$encrypting",
        "GranteePrincipal": grantee,
        "Operations": [operation],
        "Constraints": constraints,
    }
    return Step("kms:CreateGrant", request, keep={"grant": "GrantId"})


def sign(says: str, request: dict[str, object], expected: Answer | str) -> Row:
    """A signature."""
    return row("kms:Sign", says, {**ALGORITHM, **request}, expected)


ROWS: tuple[Row, ...] = (
    row("kms:CreateKey", "enabled", {"Description": "d"}, {"KeyMetadata.KeyState": "Enabled", "KeyMetadata.KeyManager": "CUSTOMER", "KeyMetadata.KeySpec": "SYMMETRIC_DEFAULT"}),
    row("kms:CreateKey", "for signatures", {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, {"KeyMetadata.KeyUsage": "SIGN_VERIFY"}),
    row("kms:CreateKey", "of a kind that does not exist", {"KeySpec": "ECC_NONE"}, "ValidationException"),
    row("kms:CreateKey", "a policy that is none", {"Policy": "{"}, "MalformedPolicyDocumentException"),
    row("kms:CreateAlias", "named by it", {"AliasName": "alias/own", "TargetKeyId": "$signing"}, {}, then=(Step("kms:DescribeKey", {"KeyId": "alias/own"}, {"KeyMetadata.KeyId": "$signing"}),)),
    row("kms:CreateAlias", "twice", {"AliasName": "alias/own", "TargetKeyId": "$signing"}, "AlreadyExistsException", before=(Step("kms:CreateAlias", {"AliasName": "alias/own", "TargetKeyId": "$signing"}),)),
    row("kms:CreateAlias", "a name that is AWS's", {"AliasName": "alias/aws/x", "TargetKeyId": "$signing"}, "NotAuthorizedException", guess="moto's code for some of these names"),
    row("kms:DescribeKey", "one that does not exist", {"KeyId": NONE}, "NotFoundException"),
    row("kms:DescribeKey", "an alias that does not exist", {"KeyId": "alias/none"}, "NotFoundException"),
    row("kms:DescribeKey", "aws/ebs is managed by AWS", {"KeyId": "alias/aws/ebs"}, {"KeyMetadata.KeyManager": "AWS"}, page="kms/latest/developerguide/concepts.html"),
    row("kms:ListAliases", "of a key", {"KeyId": "$signing"}, {"Aliases": []}),
    row("kms:GetPublicKey", "to check signatures", {"KeyId": "$signing"}, {"PublicKey": ..., "SigningAlgorithms": ["ECDSA_SHA_256"]}),
    row("kms:GetPublicKey", "of a key that has none", {"KeyId": "$encrypting"}, "UnsupportedOperationException"),
    sign("a message", {"Message": MESSAGE, "MessageType": "RAW"}, {"Signature": ..., "SigningAlgorithm": "ECDSA_SHA_256"}),
    sign("4,096 bytes", {"Message": b"x" * 4096, "MessageType": "RAW"}, {"Signature": ...}),
    sign("more than 4,096 bytes", {"Message": b"x" * 4097, "MessageType": "RAW"}, "ValidationException"),
    sign("a digest", {"Message": DIGEST, "MessageType": "DIGEST"}, {"Signature": ...}),
    sign("a digest of another length", {"Message": b"x" * 31, "MessageType": "DIGEST"}, "ValidationException"),
    sign("nothing", {"Message": b"", "MessageType": "RAW"}, "ValidationException"),
    row("kms:Sign", "an algorithm that the key has not", {"KeyId": "$signing", "Message": MESSAGE, "SigningAlgorithm": "ECDSA_SHA_384"}, "InvalidKeyUsageException"),
    row("kms:Sign", "with a key for encryption", {"KeyId": "$encrypting", "Message": MESSAGE, "SigningAlgorithm": "ECDSA_SHA_256"}, "InvalidKeyUsageException"),
    row("kms:Sign", "with a key that does not exist", {"KeyId": NONE, "Message": MESSAGE, "SigningAlgorithm": "ECDSA_SHA_256"}, "NotFoundException"),
    row("kms:Sign", "with a disabled key", {**ALGORITHM, "Message": MESSAGE}, "DisabledException", before=(Step("kms:DisableKey", {"KeyId": "$signing"}),)),
    row("kms:Verify", "what it has signed", {**ALGORITHM, "Message": MESSAGE, "Signature": b"not a signature"}, Refused("KMSInvalidSignatureException")),
    row("kms:Verify", "a message's signature by its digest, which is not hashed again", {**ALGORITHM, "Message": DIGEST, "MessageType": "DIGEST", "Signature": "$signature"}, {"SignatureValid": True}, before=(SIGNED,)),
    row("kms:Verify", "a digest of another message", {**ALGORITHM, "Message": DIGEST, "MessageType": "RAW", "Signature": "$signature"}, "KMSInvalidSignatureException", before=(SIGNED,)),
    row("kms:Decrypt", "and back", {"CiphertextBlob": "$secret"}, {"Plaintext": b"secret", "KeyId": "arn:aws:kms:eu-west-1:$account:key/$encrypting"}, before=(ENCRYPTED,)),
    row("kms:Decrypt", "in another context", {"CiphertextBlob": "$secret", "EncryptionContext": {"a": "b"}}, "InvalidCiphertextException", before=(ENCRYPTED,)),
    row("kms:Decrypt", "a grant allows it, of the key that the ciphertext names", {"CiphertextBlob": "$secret"}, {"Plaintext": b"secret"}, page=GRANTS, caller="$nobody", before=(ENCRYPTED, granted("Decrypt"))),
    row("kms:Decrypt", "nobody may", {"CiphertextBlob": "$secret"}, "AccessDeniedException", caller="$nobody", before=(ENCRYPTED,)),
    row("kms:Decrypt", "by a key that was disabled since", {"CiphertextBlob": "$secret"}, "DisabledException", page=STATES, before=(ENCRYPTED, *DISABLED)),
    row("kms:ReEncrypt", "under another key", {"CiphertextBlob": "$secret", "DestinationKeyId": "$encrypting"}, {"CiphertextBlob": ...}, before=(ENCRYPTED,)),
    row("kms:ReEncrypt", "of who may decrypt alone", {"CiphertextBlob": "$secret", "DestinationKeyId": "$encrypting"}, "AccessDeniedException", page=GRANTS, caller="$nobody", before=(ENCRYPTED, granted("Decrypt"))),
    row("kms:Encrypt", "by a key", {"KeyId": "$encrypting", "Plaintext": b"secret"}, {"CiphertextBlob": ...}),
    row("kms:Decrypt", "what is no ciphertext", {"CiphertextBlob": b"nothing"}, "InvalidCiphertextException"),
    row("kms:GenerateDataKeyWithoutPlaintext", "for volumes", {"KeyId": "$encrypting", "KeySpec": "AES_256"}, {"CiphertextBlob": ...}),
    row("kms:ReEncrypt", "what is no ciphertext", {"CiphertextBlob": b"nothing", "DestinationKeyId": "$encrypting"}, "InvalidCiphertextException"),
    row("kms:CreateGrant", "to a role", {"KeyId": "$encrypting", "GranteePrincipal": "arn:aws:iam::$account:role/$role", "Operations": ["Decrypt"]}, {"GrantId": ...}),
    row("kms:PutKeyPolicy", "a policy that is none", {"KeyId": "$encrypting", "PolicyName": "default", "Policy": "{"}, "MalformedPolicyDocumentException"),
    row("kms:GetKeyPolicy", "its policy", {"KeyId": "$encrypting", "PolicyName": "default"}, {"Policy": ...}),
    row("kms:PutKeyPolicy", "for nobody", {"KeyId": "$encrypting", "PolicyName": "default", "Policy": '{"Version": "2012-10-17", "Statement": []}'}, "MalformedPolicyDocumentException"),
    row("kms:ScheduleKeyDeletion", "tomorrow", {"KeyId": "$encrypting", "PendingWindowInDays": 1}, "ValidationException"),
    row("kms:ScheduleKeyDeletion", "twice", {"KeyId": "$encrypting"}, "KMSInvalidStateException", page=STATES, before=(Step("kms:ScheduleKeyDeletion", {"KeyId": "$encrypting"}),)),
    row("kms:Encrypt", "with a disabled key", {"KeyId": "$encrypting", "Plaintext": b"secret"}, "DisabledException", page=STATES, before=DISABLED),
    row("kms:GenerateDataKeyWithoutPlaintext", "with a disabled key", {"KeyId": "$encrypting", "KeySpec": "AES_256"}, "DisabledException", page=STATES, before=DISABLED),
    row("kms:Encrypt", "with a key that is to be deleted", {"KeyId": "$encrypting", "Plaintext": b"secret"}, "KMSInvalidStateException", page=STATES, before=(Step("kms:ScheduleKeyDeletion", {"KeyId": "$encrypting"}),)),
    row("kms:Encrypt", "with a key for signatures", {"KeyId": "$signing", "Plaintext": b"secret"}, "InvalidKeyUsageException"),
    row("kms:CreateGrant", "to what is no principal", {"KeyId": "$encrypting", "GranteePrincipal": "role", "Operations": ["Decrypt"]}, "InvalidArnException"),
    row("kms:Encrypt", "a grant allows it", PLAIN, {"CiphertextBlob": ...}, page=GRANTS, caller="$nobody", before=(granted("Encrypt"),)),
    row("kms:Encrypt", "a grant of something else does not", PLAIN, "AccessDeniedException", page=GRANTS, caller="$nobody", before=(granted("Decrypt"),)),
    row("kms:Encrypt", "a grant for another context does not", {**PLAIN, "EncryptionContext": {"a": "c"}}, "AccessDeniedException", page=GRANTS, caller="$nobody", before=(granted("Encrypt", {"EncryptionContextSubset": {"a": "b"}}),)),
    row("kms:Encrypt", "a grant for this context does", {**PLAIN, "EncryptionContext": {"a": "b", "c": "d"}}, {"CiphertextBlob": ...}, page=GRANTS, caller="$nobody", before=(granted("Encrypt", {"EncryptionContextSubset": {"a": "b"}}),)),
    row("kms:Encrypt", "a grant for this context alone does not", {**PLAIN, "EncryptionContext": {"a": "b", "c": "d"}}, "AccessDeniedException", page=GRANTS, caller="$nobody", before=(granted("Encrypt", {"EncryptionContextEquals": {"a": "b"}}),)),
    row("kms:Encrypt", "a revoked grant does not", PLAIN, "AccessDeniedException", page=GRANTS, caller="$nobody", before=(granted("Encrypt"), Step("kms:RevokeGrant", {"KeyId": "$encrypting", "GrantId": "$grant"}))),
    row("kms:ScheduleKeyDeletion", "in a week at least", {"KeyId": "$encrypting", "PendingWindowInDays": 7}, {"KeyState": "PendingDeletion"}),
    row("kms:Sign", "nobody may", {**ALGORITHM, "Message": MESSAGE}, "AccessDeniedException", caller="$nobody"),
)  # fmt: skip
