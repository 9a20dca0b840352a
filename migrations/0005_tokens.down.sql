DROP TABLE idempotency_keys;
DROP TABLE token_uses;
DROP TABLE tokens;
