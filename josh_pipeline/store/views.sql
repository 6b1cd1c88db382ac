-- Views over the tables of schema.sql, beside the current_<table> and standing_<table> that the layout of the
-- stages gives.

-- What is named by content, with the iterations that use it: a row for each use.
CREATE VIEW current_trees AS
SELECT r.iteration, r.generation, r.position, t.* FROM current_rollouts r JOIN trees t USING (rollout_id);

CREATE VIEW current_nodes AS
SELECT r.iteration, r.generation, n.* FROM current_rollouts r JOIN nodes n USING (rollout_id);

CREATE VIEW current_episodes AS
SELECT m.iteration, m.generation, m.side, m.role, m.goal_kind, e.*
FROM current_evaluation_episodes m JOIN episodes e USING (episode_id);

-- Lineage, over all generations, superseded ones included -------------------------------------------------

-- Which generation was made from which.
CREATE VIEW generation_inputs AS
SELECT g.stage, g.scope, g.generation, g.current,
       split_part(k.input, '/', 1) AS input_stage, split_part(k.input, '/', 2) AS input_scope,
       (g.inputs ->> ('$."' || k.input || '"'))::INTEGER AS input_generation
FROM generations g, unnest(json_keys(g.inputs)) AS k(input);

-- Every generation to those of the same iteration that it was made from, by the shortest way; itself included.
CREATE VIEW generations_behind AS
WITH RECURSIVE up(stage, scope, generation, input_stage, input_generation, steps) AS (
    SELECT stage, scope, generation, stage, generation, 0 FROM generations
    UNION ALL
    SELECT u.stage, u.scope, u.generation, i.input_stage, i.input_generation, u.steps + 1
    FROM up u JOIN generation_inputs i
    ON i.stage = u.input_stage AND i.scope = u.scope AND i.generation = u.input_generation AND i.input_scope = u.scope
)
SELECT stage, scope, generation, input_stage, min_by(input_generation, steps) AS input_generation
FROM up GROUP BY ALL;

-- What an iteration's adapter, scores and all that is told of them came from: the generations behind its current
-- evaluation; while there is none, behind its adapter; while there is none, behind its harvest. A rerun of an
-- earlier step is current at once, and stands only when these were made of it. Other stages stand as they are.
CREATE VIEW standing_generations AS
SELECT g.stage, g.scope, coalesce(b.input_generation, g.generation) AS generation
FROM generations g LEFT JOIN (
    SELECT b.* FROM generations_behind b JOIN generations r USING (stage, scope, generation)
    WHERE r.current AND r.stage IN ('preferences', 'adapter', 'evaluation')
    QUALIFY rank() OVER (
        PARTITION BY b.scope ORDER BY list_position(['evaluation', 'adapter', 'preferences'], b.stage)
    ) = 1
) b ON b.scope = g.scope AND b.input_stage = g.stage
WHERE g.current;

CREATE VIEW standing_trees AS
SELECT r.iteration, r.generation, r.position, t.*
FROM rollouts r JOIN standing_generations s
ON s.stage = 'rollouts' AND s.scope = r.iteration AND s.generation = r.generation
JOIN trees t USING (rollout_id);

CREATE VIEW standing_nodes AS
SELECT r.iteration, r.generation, n.* FROM standing_trees r JOIN nodes n USING (rollout_id);

-- Every goal once: its id covers all that it is, so its rows agree in all generations.
CREATE VIEW goal_sources AS
SELECT goal_id, any_value(source_id) AS source_id, any_value(corpus_digest) AS corpus_digest,
       any_value(role) AS role, any_value(split) AS split
FROM goals GROUP BY goal_id;

-- Training row to node, tree, goal and source.
CREATE VIEW row_lineage AS
SELECT l.iteration, l.generation, l.row_id, l.part, l.node_id, l.rollout_id, t.policy_digest, t.goal_id,
       s.source_id
FROM row_nodes l JOIN trees t USING (rollout_id) LEFT JOIN goal_sources s USING (goal_id);

-- Adapter to the harvests that it was trained on: its iteration's own, and those that were replayed.
CREATE VIEW adapter_rows AS
SELECT t.iteration, t.generation, t.adapter_digest, t.policy_digest, t.base_digest, t.parent_digest,
       i.input_scope AS rows_iteration, i.input_generation AS rows_generation, i.current
FROM trainings t JOIN generation_inputs i
ON i.stage = 'adapter' AND i.scope = t.iteration AND i.generation = t.generation AND i.input_stage = 'preferences';

-- Every harvest, and whether it stands and any adapter was trained on it.
CREATE VIEW harvests AS
SELECT g.scope AS iteration, g.generation, g.created_at,
       (g.stage, g.scope, g.generation) IN (SELECT (stage, scope, generation) FROM standing_generations) AS standing,
       (g.scope, g.generation) IN (SELECT (rows_iteration, rows_generation) FROM adapter_rows) AS trained
FROM generations g WHERE g.stage = 'preferences';

-- Adapter to every source that it was trained on itself: through trees, or through the demonstrations of
-- its base. What it inherits from the adapter that it went on from is in adapter_ancestors.
CREATE VIEW adapter_sources AS
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
CREATE VIEW adapter_ancestors AS
WITH RECURSIVE up(adapter_digest, ancestor_digest) AS (
    SELECT DISTINCT adapter_digest, adapter_digest FROM trainings
    UNION
    SELECT u.adapter_digest, t.parent_digest FROM up u JOIN trainings t ON t.adapter_digest = u.ancestor_digest
    WHERE t.parent_digest IS NOT NULL
)
SELECT * FROM up;

-- Base to every source that it was demonstrated.
CREATE VIEW base_sources AS
SELECT DISTINCT b.base_digest, b.scope, b.generation, g.current, d.source_id
FROM demonstrations d JOIN base_models b USING (scope, generation)
JOIN generations g ON g.stage = 'cold_start' AND g.scope = d.scope AND g.generation = d.generation;

-- Source to every tree that was searched for it, whatever it earned; without an iteration where none listed it.
CREATE VIEW source_searches AS
SELECT DISTINCT s.source_id, t.rollout_id, t.goal_id, t.policy_digest, r.iteration, t.retry, t.reward, t.failure
FROM trees t JOIN goal_sources s USING (goal_id) LEFT JOIN rollouts r USING (rollout_id);

-- Source to every evaluation that played it, of any policy, in any generation.
CREATE VIEW source_evaluations AS
SELECT s.source_id, e.policy_digest, 'evaluation' AS stage, m.iteration AS scope, m.generation, m.role,
       m.goal_kind, e.goal_id, e.episode_id, e.reward
FROM evaluation_episodes m JOIN episodes e USING (episode_id) JOIN goal_sources s USING (goal_id)
UNION ALL
SELECT s.source_id, e.policy_digest, 'benchmark', m.scope, m.generation, b.selection, b.goal_kind,
       e.goal_id, e.episode_id, e.reward
FROM benchmark_episodes m JOIN benchmarks b USING (scope, generation)
JOIN episodes e USING (episode_id) JOIN goal_sources s USING (goal_id);
