BEGIN TRANSACTION;
CREATE TABLE activities (
	activity_id TEXT NOT NULL, 
	agent_id TEXT NOT NULL, 
	network_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	duration_s DOUBLE, 
	ok BIGINT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (activity_id)
);
INSERT INTO "activities" VALUES('x1','a','net','task',1772323200000000,0.5,1,'{}');
CREATE TABLE agent_state_changes (
	change_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	agent_id TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	epoch BIGINT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	digest TEXT NOT NULL, 
	changed_at BIGINT NOT NULL
);
INSERT INTO "agent_state_changes" VALUES(1,'a',1,1,3,'7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed',1772366400000000);
INSERT INTO "agent_state_changes" VALUES(2,'a',2,1,3,'3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3',1772366400000000);
CREATE TABLE agent_states (
	agent_id TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	epoch BIGINT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	digest TEXT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (agent_id)
);
INSERT INTO "agent_states" VALUES('a',2,1,3,'3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3',1772366400000000,X'74776F');
CREATE TABLE agents (
	agent_id TEXT NOT NULL, 
	network_id TEXT NOT NULL, 
	workload TEXT NOT NULL, 
	region TEXT NOT NULL, 
	cpu_milli BIGINT NOT NULL, 
	memory_bytes BIGINT NOT NULL, 
	bandwidth_bps BIGINT NOT NULL, 
	gpu_milli BIGINT NOT NULL, 
	gpu_memory_bytes BIGINT NOT NULL, 
	priority BIGINT NOT NULL, 
	PRIMARY KEY (agent_id)
);
INSERT INTO "agents" VALUES('a','net','w','eu',10,1048576,0,0,0,0);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE journal (
	entry_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	action_id TEXT NOT NULL, 
	step TEXT NOT NULL, 
	status TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	duration_s DOUBLE, 
	detail TEXT NOT NULL, 
	CONSTRAINT journal_step_once UNIQUE (action_id, step, status)
);
INSERT INTO "journal" VALUES(1,'act','fence','done','a','why',1772323200000000,NULL,'{}');
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	term BIGINT NOT NULL, 
	ttl_s DOUBLE NOT NULL, 
	renewed_at BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('node/node','boot',1,5.0,1772366400000000,1772366405000000);
CREATE TABLE node_reports (
	node_id TEXT NOT NULL, 
	boot_id TEXT NOT NULL, 
	pid BIGINT NOT NULL, 
	address TEXT NOT NULL, 
	started_at BIGINT NOT NULL, 
	reported_at BIGINT NOT NULL, 
	received_at BIGINT NOT NULL, 
	cpu_percent DOUBLE, 
	memory_used_bytes BIGINT, 
	disk_free_bytes BIGINT, 
	agents_running BIGINT NOT NULL, 
	agents_failed BIGINT NOT NULL, 
	oldest_heartbeat_at BIGINT, 
	agents_json TEXT NOT NULL, 
	gpus_json TEXT NOT NULL, 
	PRIMARY KEY (node_id)
);
INSERT INTO "node_reports" VALUES('node','boot',1,'127.0.0.1:1',1772323200000000,1772323200000000,1772366400000000,1.5,NULL,NULL,1,0,1772323200000000,'[["a",1,"running",7,1772323200000000,1772323200000000,0,null,null,""]]','[{"gpu_uuid":"gpu-1","node_id":"node","region":"eu","device_index":0,"throttle_reasons":[],"lost":false,"denied":[],"xids":[]}]');
CREATE TABLE nodes (
	node_id TEXT NOT NULL, 
	region TEXT NOT NULL, 
	zone TEXT NOT NULL, 
	cpu_milli BIGINT NOT NULL, 
	memory_bytes BIGINT NOT NULL, 
	bandwidth_bps BIGINT NOT NULL, 
	gpu_count BIGINT NOT NULL, 
	gpu_memory_bytes BIGINT NOT NULL, 
	gpu_model TEXT, 
	PRIMARY KEY (node_id)
);
INSERT INTO "nodes" VALUES('node','eu','eu-a',2000,1073741824,0,0,0,NULL);
CREATE TABLE notes (
	note_id TEXT NOT NULL, 
	agent_id TEXT NOT NULL, 
	network_id TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (note_id)
);
INSERT INTO "notes" VALUES('n1','a','net',1772323200000000,'remember');
CREATE TABLE placements (
	agent_id TEXT NOT NULL, 
	network_id TEXT NOT NULL, 
	workload TEXT NOT NULL, 
	node_id TEXT NOT NULL, 
	region TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	term BIGINT NOT NULL, 
	desired TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	retired BIGINT NOT NULL, 
	PRIMARY KEY (agent_id)
);
INSERT INTO "placements" VALUES('a','net','w','node','eu',1,1,'running','',1772323200000000,0);
INSERT INTO "placements" VALUES('b','net','w','node','eu',1,1,'running','',1772323200000000,1);
CREATE TABLE store_properties (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE workloads (
	workload TEXT NOT NULL, 
	network_id TEXT NOT NULL, 
	specification_json TEXT NOT NULL, 
	PRIMARY KEY (workload)
);
INSERT INTO "workloads" VALUES('w','net','{"function":"m:f","command":[],"arguments":{},"replicas_per_node":1,"cpu_milli":10,"memory_bytes":16777216,"bandwidth_bps":0,"gpu_milli":0,"gpu_memory_bytes":0,"priority":0,"restart":{"mode":"on-failure","delay_s":0.05,"delay_max_s":30.0,"attempts_max":5,"window_s":600.0}}');
CREATE INDEX nodes_by_region ON nodes (region, node_id);
CREATE INDEX agents_by_region ON agents (region);
CREATE INDEX agents_by_network ON agents (network_id);
CREATE INDEX placements_by_node ON placements (node_id, retired, region);
CREATE INDEX placements_by_region ON placements (region, retired);
CREATE INDEX placements_by_network ON placements (network_id);
CREATE INDEX activities_by_agent ON activities (agent_id, at);
CREATE INDEX activities_by_time ON activities (at);
CREATE INDEX notes_by_network ON notes (network_id, note_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('agent_state_changes',2);
INSERT INTO "sqlite_sequence" VALUES('journal',1);
COMMIT;
