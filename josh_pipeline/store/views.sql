-- Views over the tables of schema.sql, beside the current_<table> that the layout of the stages gives.

-- What is named by content, with the iterations that use it: a row for each use.
CREATE OR REPLACE VIEW current_trees AS
SELECT r.iteration, r.generation, r.position, t.* FROM current_rollouts r JOIN trees t USING (rollout_id);

CREATE OR REPLACE VIEW current_nodes AS
SELECT r.iteration, r.generation, n.* FROM current_rollouts r JOIN nodes n USING (rollout_id);

CREATE OR REPLACE VIEW current_episodes AS
SELECT m.iteration, m.generation, m.side, m.role, m.goal_kind, e.*
FROM current_evaluation_episodes m JOIN episodes e USING (episode_id);

-- Lineage, over all generations, superseded ones included -------------------------------------------------

-- Which generation was made from which.
CREATE OR REPLACE VIEW generation_inputs AS
SELECT g.stage, g.scope, g.generation, g.current,
       split_part(k.input, '/', 1) AS input_stage, split_part(k.input, '/', 2) AS input_scope,
       (g.inputs ->> ('$."' || k.input || '"'))::INTEGER AS input_generation
FROM generations g, unnest(json_keys(g.inputs)) AS k(input);

-- Every goal once: its id covers all that it is, so its rows agree in all generations.
CREATE OR REPLACE VIEW goal_sources AS
SELECT goal_id, any_value(source_id) AS source_id, any_value(corpus_digest) AS corpus_digest,
       any_value(role) AS role, any_value(split) AS split
FROM goals GROUP BY goal_id;

-- Training row to node, tree, goal and source.
CREATE OR REPLACE VIEW row_lineage AS
SELECT l.iteration, l.generation, l.row_id, l.part, l.node_id, l.rollout_id, t.policy_digest, t.goal_id,
       s.source_id
FROM row_nodes l JOIN trees t USING (rollout_id) LEFT JOIN goal_sources s USING (goal_id);

-- Adapter to the harvests that it was trained on: its iteration's own, and those that were replayed.
CREATE OR REPLACE VIEW adapter_rows AS
SELECT t.iteration, t.generation, t.adapter_digest, t.policy_digest, t.base_digest, t.parent_digest,
       i.input_scope AS rows_iteration, i.input_generation AS rows_generation, i.current
FROM trainings t JOIN generation_inputs i
ON i.stage = 'adapter' AND i.scope = t.iteration AND i.generation = t.generation AND i.input_stage = 'preferences';

-- Adapter to every source that it was trained on itself: through trees, or through the demonstrations of
-- its base. What it inherits from the adapter that it went on from is in adapter_ancestors.
CREATE OR REPLACE VIEW adapter_sources AS
SELECT DISTINCT a.adapter_digest, a.policy_digest, a.iteration, a.generation, a.current,
       r.source_id, 'rows' AS through
FROM adapter_rows a JOIN row_lineage r
ON r.iteration = a.rows_iteration AND r.generation = a.rows_generation
UNION
SELECT DISTINCT t.adapter_digest, t.policy_digest, t.iteration, t.generation, g.current,
       d.source_id, 'demonstrations'
FROM trainings t
JOIN generations g ON g.stage = 'adapter' AND g.scope = t.iteration AND g.generation = t.generation
JOIN base_models b ON b.base_digest = t.base_digest
JOIN demonstrations d ON d.scope = b.scope AND d.generation = b.generation;

-- Adapter to the adapters that its weights come from, itself included.
CREATE OR REPLACE VIEW adapter_ancestors AS
WITH RECURSIVE up(adapter_digest, ancestor_digest) AS (
    SELECT DISTINCT adapter_digest, adapter_digest FROM trainings
    UNION
    SELECT u.adapter_digest, t.parent_digest FROM up u JOIN trainings t ON t.adapter_digest = u.ancestor_digest
    WHERE t.parent_digest IS NOT NULL
)
SELECT * FROM up;

-- Source to every evaluation that played it, of any policy, in any generation.
CREATE OR REPLACE VIEW source_evaluations AS
SELECT s.source_id, e.policy_digest, 'evaluation' AS stage, m.iteration AS scope, m.generation, m.role,
       m.goal_kind, e.goal_id, e.episode_id, e.reward
FROM evaluation_episodes m JOIN episodes e USING (episode_id) JOIN goal_sources s USING (goal_id)
UNION ALL
SELECT s.source_id, e.policy_digest, 'benchmark', m.scope, m.generation, b.selection, b.goal_kind,
       e.goal_id, e.episode_id, e.reward
FROM benchmark_episodes m JOIN benchmarks b USING (scope, generation)
JOIN episodes e USING (episode_id) JOIN goal_sources s USING (goal_id);
