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
