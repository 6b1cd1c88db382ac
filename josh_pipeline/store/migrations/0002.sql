-- From version 1: seals. Rows of before stay unsealed until somebody asks for it (josh audit --seal).

ALTER TABLE generations ADD COLUMN content VARCHAR;
ALTER TABLE generations ADD COLUMN digest VARCHAR;
ALTER TABLE generations ADD COLUMN sealed_at TIMESTAMPTZ;
ALTER TABLE generations ADD COLUMN removed_at TIMESTAMPTZ;

CREATE TABLE seals (
    unit VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    digest VARCHAR NOT NULL
);

-- Version 1 counted neither failed requests nor the user's; what was not counted is 0.
ALTER TABLE trees ADD COLUMN simulated_user VARCHAR DEFAULT 'not recorded';
ALTER TABLE trees ADD COLUMN failed_requests BIGINT DEFAULT 0;
ALTER TABLE trees ADD COLUMN user_requests BIGINT DEFAULT 0;
ALTER TABLE trees ADD COLUMN user_failed_requests BIGINT DEFAULT 0;
ALTER TABLE trees ADD COLUMN user_prompt_tokens BIGINT DEFAULT 0;
ALTER TABLE trees ADD COLUMN user_completion_tokens BIGINT DEFAULT 0;
ALTER TABLE trees ADD COLUMN cost DOUBLE DEFAULT 0;

-- Nor did it count anything of evaluations, or measure drift.
ALTER TABLE episodes ADD COLUMN requests BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN failed_requests BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN prompt_tokens BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN cached_tokens BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN completion_tokens BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN user_requests BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN user_failed_requests BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN user_prompt_tokens BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN user_completion_tokens BIGINT DEFAULT 0;
ALTER TABLE episodes ADD COLUMN cost DOUBLE DEFAULT 0;
ALTER TABLE episodes ADD COLUMN seconds DOUBLE DEFAULT 0;
CREATE TABLE drifts (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    policy_digest VARCHAR NOT NULL, foundation_digest VARCHAR NOT NULL, texts_digest VARCHAR NOT NULL,
    drift DOUBLE, low DOUBLE, high DOUBLE, texts BIGINT, tokens BIGINT, by_kind JSON, seconds DOUBLE,
    max_drift DOUBLE NOT NULL, reason VARCHAR
);
