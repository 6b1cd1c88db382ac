-- The store. One table a noun.
--
-- A run of a stage writes a *generation* of its tables and makes it current in one transaction. A
-- generation belongs to a *scope*: the iteration ('001') in the loop, else the content hash of the
-- settings that it depends on (a corpus, its goals, a base model). Superseded generations stay.
-- Read through the views current_<table> and standing_<table>, made from the layout of the stages: see views.sql.
--
-- Trees, nodes and episodes are named by content and checkpointed while a step runs; a generation only
-- lists which of them belong to it (rollouts, evaluation_episodes). What is played again because it
-- failed is another tree or conversation: `retry` counts, and is part of the id.
--
-- A row never changes once it is written. Its last column `digest` is computed from the others; see
-- digests.py. A change here raises SCHEMA_VERSION in schema.py and comes with a step in migrations/.

CREATE TABLE meta (schema_version INTEGER NOT NULL, created_at TIMESTAMPTZ NOT NULL);

CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,           -- Dagster's run id where Dagster ran it
    started_at TIMESTAMPTZ NOT NULL,
    profile VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    settings_digest VARCHAR NOT NULL,
    settings JSON NOT NULL,               -- resolved, whole
    packages JSON NOT NULL,               -- name to version
    git_commit VARCHAR,                   -- null outside a checkout; '+' at the end: with local changes
    digest VARCHAR NOT NULL
);

CREATE TABLE generations (
    stage VARCHAR NOT NULL,
    scope VARCHAR NOT NULL,
    generation INTEGER NOT NULL,
    run_id VARCHAR NOT NULL,
    current BOOLEAN NOT NULL,
    inputs JSON NOT NULL,                 -- "stage/scope" to the generation that was read
    created_at TIMESTAMPTZ NOT NULL,
    rows JSON NOT NULL,                   -- table to the number of its rows
    content VARCHAR NOT NULL,             -- digest of its rows: equal where a rerun wrote the same
    digest VARCHAR NOT NULL,              -- of content, run, and the digests of its inputs
    removed_at TIMESTAMPTZ,               -- when josh gc removed its rows
    PRIMARY KEY (stage, scope, generation)
);

-- Stage corpus: what an environment read from outside -----------------------------------------------

CREATE TABLE corpora (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, name VARCHAR NOT NULL, source VARCHAR NOT NULL,
    licence VARCHAR NOT NULL,             -- empty where there is none to name
    sources BIGINT NOT NULL, entities BIGINT NOT NULL,
    digest VARCHAR NOT NULL
);

CREATE TABLE sources (                    -- records that tasks are derived from, if any
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, source_id VARCHAR NOT NULL, split VARCHAR NOT NULL,
    content JSON NOT NULL,                -- as the environment read it
    digest VARCHAR NOT NULL
);

CREATE TABLE entities (                   -- what worlds look things up in
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, collection VARCHAR NOT NULL, position BIGINT NOT NULL,
    content JSON NOT NULL,
    digest VARCHAR NOT NULL
);

-- Stage goals -------------------------------------------------------------------------------------

CREATE TABLE goals (                      -- the environment's tasks, excluded ones too
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, goal_id VARCHAR NOT NULL, position BIGINT NOT NULL,
    source_id VARCHAR NOT NULL,
    split VARCHAR NOT NULL,               -- empty where the corpus has no lists
    role VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    title VARCHAR NOT NULL, message JSON NOT NULL, -- for people
    calls JSON NOT NULL,                  -- that are wanted; empty where milestones are no calls
    excluded VARCHAR,
    task JSON NOT NULL,                   -- all of the environment's own class
    digest VARCHAR NOT NULL
);

CREATE TABLE solvability (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    goal_id VARCHAR NOT NULL, reward DOUBLE NOT NULL, -- the oracle's
    solvable BOOLEAN NOT NULL, missed VARCHAR[] NOT NULL,
    digest VARCHAR NOT NULL
);

-- Stage cold_start: the foundation, the scripted conversations, and the base that came of them ----------

CREATE TABLE base_models (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    base_digest VARCHAR NOT NULL, model VARCHAR NOT NULL, foundation_digest VARCHAR NOT NULL,
    foundation_path VARCHAR NOT NULL, -- relative to the home where it lies in it
    adapter_digest VARCHAR, adapter_path VARCHAR, -- of the cold start; null where there is none
    base_path VARCHAR NOT NULL,
    demonstrations BIGINT NOT NULL, tokens BIGINT NOT NULL, seconds DOUBLE NOT NULL,
    record JSON NOT NULL, -- how the cold start was trained, and the digest of the merged files; {} where there is none
    digest VARCHAR NOT NULL
);

CREATE TABLE demonstrations (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    position BIGINT NOT NULL, goal_id VARCHAR NOT NULL, source_id VARCHAR NOT NULL,
    messages JSON NOT NULL, reward DOUBLE NOT NULL,
    digest VARCHAR NOT NULL
);

CREATE TABLE cold_start_curves (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    step BIGINT NOT NULL, point JSON NOT NULL,
    digest VARCHAR NOT NULL
);

-- Stage policy: what an iteration plays with, and which attempt it is ----------------------------------

CREATE TABLE policies (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    policy_digest VARCHAR NOT NULL, kind VARCHAR NOT NULL, -- 'base', 'adapter', 'weights' or 'endpoint'
    attempt INTEGER NOT NULL, line VARCHAR NOT NULL, -- iterations that follow on each other share a line
    predecessor VARCHAR,                  -- the iteration that promoted it; null for the first of a line
    corpus VARCHAR NOT NULL, corpus_digest VARCHAR NOT NULL,
    corpus_scope VARCHAR NOT NULL, goals_scope VARCHAR NOT NULL, base_scope VARCHAR NOT NULL,
    base_digest VARCHAR NOT NULL, base_path VARCHAR NOT NULL,
    adapter_digest VARCHAR, adapter_path VARCHAR,
    model VARCHAR NOT NULL,
    digest VARCHAR NOT NULL
);

-- Stage rollouts ----------------------------------------------------------------------------------
-- A tree with failure 'budget' was cut short by it. A failed tree is owed again, as the next retry.

CREATE TABLE trees (                      -- checkpointed
    rollout_id VARCHAR NOT NULL, goal_id VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL,
    seed BIGINT NOT NULL, settings_digest VARCHAR NOT NULL,
    retry INTEGER NOT NULL, run_id VARCHAR NOT NULL,
    system VARCHAR NOT NULL, tools JSON NOT NULL,
    earned JSON NOT NULL, reward DOUBLE NOT NULL, rounds BIGINT NOT NULL,
    failure VARCHAR, failure_message VARCHAR,
    simulated_user VARCHAR NOT NULL,      -- kind, model and wording of the simulated user
    requests BIGINT NOT NULL, failed_requests BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
    user_requests BIGINT NOT NULL, user_failed_requests BIGINT NOT NULL, -- of a user that is a model
    user_prompt_tokens BIGINT NOT NULL, user_completion_tokens BIGINT NOT NULL,
    cost DOUBLE NOT NULL,                 -- in the currency of the prices in the settings; 0 without prices
    seconds DOUBLE NOT NULL,
    nodes_digest VARCHAR NOT NULL,        -- of its nodes' digests, in the order of their ids
    digest VARCHAR NOT NULL
);

CREATE TABLE nodes (                      -- checkpointed
    rollout_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL, parent_id VARCHAR,
    position BIGINT NOT NULL,             -- in tree order, rounds ascending
    path JSON NOT NULL, round BIGINT NOT NULL,
    messages JSON NOT NULL, completions JSON NOT NULL, calls JSON NOT NULL, earned JSON NOT NULL,
    golden BOOLEAN NOT NULL, successful BOOLEAN NOT NULL, error_turn BOOLEAN NOT NULL,
    failure VARCHAR, failure_message VARCHAR, ended VARCHAR,
    told JSON,                            -- system message and tools of this turn, where not the tree's
    digest VARCHAR NOT NULL
);

CREATE TABLE rollouts (                   -- which trees belong to an iteration
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    position BIGINT NOT NULL, rollout_id VARCHAR NOT NULL,
    tree_digest VARCHAR NOT NULL,         -- the digest of its row in trees
    digest VARCHAR NOT NULL
);

-- Stage labels: every reward, computed anew from the stored calls --------------------------------------

CREATE TABLE labels (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    rollout_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL,
    golden BOOLEAN NOT NULL, successful BOOLEAN NOT NULL, earned JSON NOT NULL,
    call_earned JSON NOT NULL,            -- for each call of the node, what it newly earned
    agrees BOOLEAN NOT NULL, difference VARCHAR,
    digest VARCHAR NOT NULL
);

CREATE TABLE tree_labels (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    rollout_id VARCHAR NOT NULL, goal_id VARCHAR NOT NULL,
    earned JSON NOT NULL, reward DOUBLE NOT NULL, agrees BOOLEAN NOT NULL,
    digest VARCHAR NOT NULL
);

-- Stage preferences -------------------------------------------------------------------------------

CREATE TABLE preference_rows (            -- see harvest/rows.py
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL, position BIGINT NOT NULL,
    row_id VARCHAR NOT NULL, method VARCHAR NOT NULL, goal_id VARCHAR NOT NULL,
    rollout_id VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL, tools JSON NOT NULL,
    prompt JSON NOT NULL,                 -- a list of messages, system message first
    sides JSON NOT NULL,                  -- a list of {"said": [{"message", "train", "token_ids", "prompt_digest"}], "label"}
    label VARCHAR NOT NULL,               -- 'golden conversation', 'desirable', 'undesirable' or 'pair'
    tokens BIGINT NOT NULL,               -- of the longer side with its prompt; 0: not counted
    digest VARCHAR NOT NULL
);

CREATE TABLE row_nodes (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    row_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL, rollout_id VARCHAR NOT NULL,
    part VARCHAR NOT NULL,                -- 'completion', 'chosen' or 'rejected'
    digest VARCHAR NOT NULL
);

-- Stage adapter -----------------------------------------------------------------------------------

CREATE TABLE trainings (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    policy_digest VARCHAR NOT NULL,       -- the candidate: base and adapter
    adapter_digest VARCHAR NOT NULL, adapter_path VARCHAR NOT NULL,
    base_digest VARCHAR NOT NULL, parent_digest VARCHAR, -- the adapter that training went on from
    rows_digest VARCHAR NOT NULL,         -- content hash of the ids of the training rows, sorted
    method VARCHAR NOT NULL, rows BIGINT NOT NULL, tokens BIGINT NOT NULL, seconds DOUBLE NOT NULL,
    manifest JSON NOT NULL,
    digest VARCHAR NOT NULL
);

CREATE TABLE training_curves (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    step BIGINT NOT NULL, point JSON NOT NULL,
    digest VARCHAR NOT NULL
);

-- Stage evaluation --------------------------------------------------------------------------------

CREATE TABLE episodes (                   -- checkpointed
    episode_id VARCHAR NOT NULL, goal_id VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL,
    seed BIGINT NOT NULL, settings_digest VARCHAR NOT NULL, trial INTEGER NOT NULL,
    retry INTEGER NOT NULL, run_id VARCHAR NOT NULL,
    reward DOUBLE NOT NULL, success BOOLEAN NOT NULL, earned JSON NOT NULL,
    messages JSON NOT NULL, calls JSON NOT NULL, turns BIGINT NOT NULL, error_turns BIGINT NOT NULL,
    user_done BOOLEAN NOT NULL, failure VARCHAR, failure_message VARCHAR,
    requests BIGINT NOT NULL, failed_requests BIGINT NOT NULL, -- these and the next as in trees
    prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
    user_requests BIGINT NOT NULL, user_failed_requests BIGINT NOT NULL,
    user_prompt_tokens BIGINT NOT NULL, user_completion_tokens BIGINT NOT NULL,
    cost DOUBLE NOT NULL, seconds DOUBLE NOT NULL,
    digest VARCHAR NOT NULL
);

CREATE TABLE evaluation_episodes (        -- which conversations belong to an iteration
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    side VARCHAR NOT NULL,                -- 'before' (the policy) or 'after' (the candidate)
    role VARCHAR NOT NULL, goal_kind VARCHAR NOT NULL, episode_id VARCHAR NOT NULL,
    episode_digest VARCHAR NOT NULL,      -- the digest of its row in episodes
    digest VARCHAR NOT NULL
);

CREATE TABLE evaluations (                -- aggregates of them
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    side VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL,
    role VARCHAR NOT NULL, goal_kind VARCHAR NOT NULL, n BIGINT NOT NULL,
    mean_reward DOUBLE NOT NULL, success_rate DOUBLE NOT NULL,
    success_low DOUBLE NOT NULL, success_high DOUBLE NOT NULL, -- 95 % interval
    failures BIGINT NOT NULL, details JSON NOT NULL, -- see evaluation/summary.py: Score
    digest VARCHAR NOT NULL
);

CREATE TABLE comparisons (                -- after minus before, paired over goals
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    role VARCHAR NOT NULL, goal_kind VARCHAR NOT NULL, metric VARCHAR NOT NULL, n BIGINT NOT NULL,
    before DOUBLE NOT NULL, after DOUBLE NOT NULL, difference DOUBLE NOT NULL,
    low DOUBLE NOT NULL, high DOUBLE NOT NULL,
    digest VARCHAR NOT NULL
);

CREATE TABLE drifts (                     -- of what an iteration made, from the foundation
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    policy_digest VARCHAR NOT NULL, foundation_digest VARCHAR NOT NULL,
    texts_digest VARCHAR NOT NULL,        -- texts, and how weights were read: others are not comparable
    drift DOUBLE, low DOUBLE, high DOUBLE, -- nats a token, 95 % interval; null where it cannot be measured
    texts BIGINT, tokens BIGINT, by_kind JSON,
    max_drift DOUBLE NOT NULL,            -- the limit in the settings
    reason VARCHAR,                       -- why there is no drift
    digest VARCHAR NOT NULL
);

-- Stage promotion ---------------------------------------------------------------------------------

CREATE TABLE promotions (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL, line VARCHAR NOT NULL, promoted BOOLEAN NOT NULL, reason VARCHAR NOT NULL,
    policy_digest VARCHAR NOT NULL,       -- the candidate
    base_digest VARCHAR NOT NULL, base_path VARCHAR NOT NULL,
    adapter_digest VARCHAR, adapter_path VARCHAR,
    previous_digest VARCHAR,              -- the policy that it was held against; null for a base
    digest VARCHAR NOT NULL
);

-- Stage benchmark: one policy on goals of one's own choice (josh evaluate). Scope: what was evaluated ---

CREATE TABLE benchmarks (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    iteration VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL, corpus VARCHAR NOT NULL,
    selection VARCHAR NOT NULL,           -- a role, or 'test-450'
    goal_kind VARCHAR NOT NULL, n BIGINT NOT NULL, trials BIGINT NOT NULL,
    mean_reward DOUBLE NOT NULL, success_rate DOUBLE NOT NULL,
    success_low DOUBLE NOT NULL, success_high DOUBLE NOT NULL, details JSON NOT NULL,
    digest VARCHAR NOT NULL
);

CREATE TABLE benchmark_episodes (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL, episode_id VARCHAR NOT NULL,
    episode_digest VARCHAR NOT NULL,
    digest VARCHAR NOT NULL
);
