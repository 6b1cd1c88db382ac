-- A store of schema version 1, as the releases before seals wrote it: the tables, two of its views, a tree
-- with a node and a conversation. Migrations are tried on it; it never changes.


CREATE TABLE meta (schema_version INTEGER NOT NULL, created_at TIMESTAMPTZ NOT NULL);

CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,
    started_at TIMESTAMPTZ NOT NULL,
    profile VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    settings_digest VARCHAR NOT NULL,
    settings JSON NOT NULL,
    packages JSON NOT NULL,
    git_commit VARCHAR
);

CREATE TABLE generations (
    stage VARCHAR NOT NULL,
    scope VARCHAR NOT NULL,
    generation INTEGER NOT NULL,
    run_id VARCHAR NOT NULL,
    current BOOLEAN NOT NULL,
    inputs JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (stage, scope, generation)
);

CREATE TABLE corpora (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, name VARCHAR NOT NULL, source VARCHAR NOT NULL,
    licence VARCHAR NOT NULL, dialogues BIGINT NOT NULL, entities BIGINT NOT NULL
);

CREATE TABLE dialogues (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, dialogue_id VARCHAR NOT NULL, split VARCHAR NOT NULL,
    turns BIGINT NOT NULL, domains VARCHAR[] NOT NULL, goal JSON NOT NULL, log JSON NOT NULL
);

CREATE TABLE entities (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, domain VARCHAR NOT NULL, position BIGINT NOT NULL,
    entity_id VARCHAR, entity JSON NOT NULL
);

CREATE TABLE goals (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    corpus_digest VARCHAR NOT NULL, goal_id VARCHAR NOT NULL, position BIGINT NOT NULL,
    dialogue_id VARCHAR NOT NULL, split VARCHAR NOT NULL, role VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    part VARCHAR, semantics VARCHAR NOT NULL, message JSON NOT NULL, tasks JSON NOT NULL,
    calls JSON NOT NULL, excluded VARCHAR
);

CREATE TABLE solvability (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    goal_id VARCHAR NOT NULL, reward DOUBLE NOT NULL,
    solvable BOOLEAN NOT NULL, missed VARCHAR[] NOT NULL
);

CREATE TABLE base_models (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    base_digest VARCHAR NOT NULL, model VARCHAR NOT NULL, foundation_digest VARCHAR NOT NULL,
    foundation_path VARCHAR NOT NULL,
    adapter_digest VARCHAR, adapter_path VARCHAR,
    base_path VARCHAR NOT NULL,
    demonstrations BIGINT NOT NULL, tokens BIGINT NOT NULL, seconds DOUBLE NOT NULL, record JSON NOT NULL
);

CREATE TABLE demonstrations (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    position BIGINT NOT NULL, goal_id VARCHAR NOT NULL, dialogue_id VARCHAR NOT NULL,
    messages JSON NOT NULL, reward DOUBLE NOT NULL
);

CREATE TABLE cold_start_curves (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    step BIGINT NOT NULL, point JSON NOT NULL
);

CREATE TABLE policies (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    policy_digest VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    attempt INTEGER NOT NULL, line VARCHAR NOT NULL,
    predecessor VARCHAR,
    corpus VARCHAR NOT NULL, corpus_digest VARCHAR NOT NULL,
    corpus_scope VARCHAR NOT NULL, goals_scope VARCHAR NOT NULL, base_scope VARCHAR NOT NULL,
    base_digest VARCHAR NOT NULL, base_path VARCHAR NOT NULL,
    adapter_digest VARCHAR, adapter_path VARCHAR,
    model VARCHAR NOT NULL
);

CREATE TABLE trees (
    rollout_id VARCHAR NOT NULL, goal_id VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL,
    seed BIGINT NOT NULL, settings_digest VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    system VARCHAR NOT NULL, tools JSON NOT NULL, earned JSON NOT NULL, reward DOUBLE NOT NULL, rounds BIGINT NOT NULL,
    failure VARCHAR, failure_message VARCHAR,
    requests BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL, seconds DOUBLE NOT NULL
);

CREATE TABLE nodes (
    rollout_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL, parent_id VARCHAR,
    position BIGINT NOT NULL,
    path JSON NOT NULL, round BIGINT NOT NULL,
    messages JSON NOT NULL, completions JSON NOT NULL, calls JSON NOT NULL, earned JSON NOT NULL,
    golden BOOLEAN NOT NULL, successful BOOLEAN NOT NULL, error_turn BOOLEAN NOT NULL,
    failure VARCHAR, failure_message VARCHAR, ended VARCHAR
);

CREATE TABLE rollouts (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    position BIGINT NOT NULL, rollout_id VARCHAR NOT NULL
);

CREATE TABLE labels (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    rollout_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL,
    golden BOOLEAN NOT NULL, successful BOOLEAN NOT NULL, earned JSON NOT NULL,
    call_earned JSON NOT NULL,
    agrees BOOLEAN NOT NULL, difference VARCHAR
);

CREATE TABLE tree_labels (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    rollout_id VARCHAR NOT NULL, goal_id VARCHAR NOT NULL,
    earned JSON NOT NULL, reward DOUBLE NOT NULL, agrees BOOLEAN NOT NULL
);

CREATE TABLE preference_rows (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL, position BIGINT NOT NULL,
    row_id VARCHAR NOT NULL, method VARCHAR NOT NULL, goal_id VARCHAR NOT NULL,
    rollout_id VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL, tools JSON NOT NULL,
    prompt JSON NOT NULL, completion JSON NOT NULL, rejected JSON, desirable BOOLEAN NOT NULL
);

CREATE TABLE row_nodes (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    row_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL, rollout_id VARCHAR NOT NULL,
    part VARCHAR NOT NULL
);

CREATE TABLE trainings (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    policy_digest VARCHAR NOT NULL,
    adapter_digest VARCHAR NOT NULL, adapter_path VARCHAR NOT NULL,
    base_digest VARCHAR NOT NULL, parent_digest VARCHAR,
    rows_digest VARCHAR NOT NULL,
    method VARCHAR NOT NULL, rows BIGINT NOT NULL, tokens BIGINT NOT NULL, seconds DOUBLE NOT NULL,
    manifest JSON NOT NULL
);

CREATE TABLE training_curves (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    step BIGINT NOT NULL, point JSON NOT NULL
);

CREATE TABLE episodes (
    episode_id VARCHAR NOT NULL, goal_id VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL,
    seed BIGINT NOT NULL, settings_digest VARCHAR NOT NULL, trial INTEGER NOT NULL,
    run_id VARCHAR NOT NULL, reward DOUBLE NOT NULL, success BOOLEAN NOT NULL, earned JSON NOT NULL,
    messages JSON NOT NULL, calls JSON NOT NULL, turns BIGINT NOT NULL, error_turns BIGINT NOT NULL,
    user_done BOOLEAN NOT NULL, failure VARCHAR, failure_message VARCHAR
);

CREATE TABLE evaluation_episodes (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    side VARCHAR NOT NULL,
    role VARCHAR NOT NULL, goal_kind VARCHAR NOT NULL, episode_id VARCHAR NOT NULL
);

CREATE TABLE evaluations (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    side VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL,
    role VARCHAR NOT NULL, goal_kind VARCHAR NOT NULL, n BIGINT NOT NULL,
    mean_reward DOUBLE NOT NULL, success_rate DOUBLE NOT NULL,
    success_low DOUBLE NOT NULL, success_high DOUBLE NOT NULL,
    failures BIGINT NOT NULL, details JSON NOT NULL
);

CREATE TABLE comparisons (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    role VARCHAR NOT NULL, goal_kind VARCHAR NOT NULL, metric VARCHAR NOT NULL, n BIGINT NOT NULL,
    before DOUBLE NOT NULL, after DOUBLE NOT NULL, difference DOUBLE NOT NULL,
    low DOUBLE NOT NULL, high DOUBLE NOT NULL
);

CREATE TABLE promotions (
    iteration VARCHAR NOT NULL, generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL, line VARCHAR NOT NULL, promoted BOOLEAN NOT NULL, reason VARCHAR NOT NULL,
    policy_digest VARCHAR NOT NULL,
    base_digest VARCHAR NOT NULL, base_path VARCHAR NOT NULL,
    adapter_digest VARCHAR, adapter_path VARCHAR,
    previous_digest VARCHAR
);

CREATE TABLE benchmarks (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL,
    iteration VARCHAR NOT NULL, policy_digest VARCHAR NOT NULL, corpus VARCHAR NOT NULL,
    selection VARCHAR NOT NULL,
    goal_kind VARCHAR NOT NULL, n BIGINT NOT NULL, trials BIGINT NOT NULL,
    mean_reward DOUBLE NOT NULL, success_rate DOUBLE NOT NULL,
    success_low DOUBLE NOT NULL, success_high DOUBLE NOT NULL, details JSON NOT NULL
);

CREATE TABLE benchmark_episodes (
    scope VARCHAR NOT NULL, generation INTEGER NOT NULL, episode_id VARCHAR NOT NULL
);

CREATE VIEW current_rollouts AS SELECT t.* FROM rollouts t JOIN generations g ON g.stage = 'rollouts' AND g.scope = t.iteration AND g.generation = t.generation AND g.current;
CREATE VIEW current_trees AS SELECT r.iteration, r.generation, r.position, t.* FROM current_rollouts r JOIN trees t USING (rollout_id);

INSERT INTO meta VALUES (1, '2026-11-01 12:00:00+00');
INSERT INTO runs VALUES ('run-1', '2026-11-01 12:00:00+00', 'quickstart', 0, 's', '{}', '{}', NULL);
INSERT INTO generations VALUES
    ('rollouts', '001', 1, 'run-1', true, '{"policy/001":1}', '2026-11-01 12:01:00+00'),
    ('evaluation', '001', 1, 'run-1', true, '{"policy/001":1}', '2026-11-01 12:02:00+00');
INSERT INTO trees VALUES
    ('t1', 'g1', 'p1', 7, 's', 'run-1', 'system', '[]', '[0]', 1.0, 1, NULL, NULL, 3, 300, 250, 40, 2.5);
INSERT INTO nodes VALUES
    ('t1', 'n0', NULL, 0, '[]', 0, '[{"role":"user","content":"Hi"}]', '[]', '[]', '[]', true, true, false, NULL, NULL, NULL);
INSERT INTO rollouts VALUES ('001', 1, 0, 't1');
INSERT INTO episodes VALUES
    ('e1', 'g2', 'p1', 7, 's', 0, 'run-1', 1.0, true, '[0]', '[]', '[]', 2, 0, true, NULL, NULL);
INSERT INTO evaluation_episodes VALUES ('001', 1, 'before', 'test', 'part', 'e1');
