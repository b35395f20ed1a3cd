"""KMS: keys, aliases, signatures."""

from __future__ import annotations

import hashlib

from tests.contract.rows import Answer, Refused, Row, Step, row

MESSAGE = b"message"
DIGEST = hashlib.sha256(MESSAGE).digest()
ALGORITHM = {"KeyId": "$signing", "SigningAlgorithm": "ECDSA_SHA_256"}
NONE = "00000000-0000-0000-0000-000000000000"


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
    row("kms:CreateAlias", "a name that is AWS's", {"AliasName": "alias/aws/x", "TargetKeyId": "$signing"}, Refused("NotAuthorizedException|ValidationException")),
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
    row("kms:Encrypt", "and back", {"KeyId": "$encrypting", "Plaintext": b"secret"}, {"CiphertextBlob": ...}),
    row("kms:Decrypt", "what is no ciphertext", {"CiphertextBlob": b"nothing"}, "InvalidCiphertextException"),
    row("kms:GenerateDataKeyWithoutPlaintext", "for volumes", {"KeyId": "$encrypting", "KeySpec": "AES_256"}, {"CiphertextBlob": ...}),
    row("kms:ReEncrypt", "what is no ciphertext", {"CiphertextBlob": b"nothing", "DestinationKeyId": "$encrypting"}, "InvalidCiphertextException"),
    row("kms:CreateGrant", "to a role", {"KeyId": "$encrypting", "GranteePrincipal": "arn:aws:iam::$account:role/$role", "Operations": ["Decrypt"]}, {"GrantId": ...}),
    row("kms:PutKeyPolicy", "a policy that is none", {"KeyId": "$encrypting", "PolicyName": "default", "Policy": "{"}, "MalformedPolicyDocumentException"),
    row("kms:GetKeyPolicy", "its policy", {"KeyId": "$encrypting", "PolicyName": "default"}, {"Policy": ...}),
    row("kms:ScheduleKeyDeletion", "in a week at least", {"KeyId": "$encrypting", "PendingWindowInDays": 7}, {"KeyState": "PendingDeletion"}),
    row("kms:Sign", "nobody may", {**ALGORITHM, "Message": MESSAGE}, "AccessDeniedException", caller="$nobody"),
)  # fmt: skip
