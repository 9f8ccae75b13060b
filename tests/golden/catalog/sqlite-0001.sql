BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE des_containers (
	container_id VARCHAR(36) NOT NULL, 
	day VARCHAR(8) NOT NULL, 
	shard_id BIGINT NOT NULL, 
	shard_span BIGINT NOT NULL, 
	shard_bits SMALLINT NOT NULL, 
	hash_first BIGINT NOT NULL, 
	hash_stop BIGINT NOT NULL, 
	"key" TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	epoch BIGINT NOT NULL, 
	layout VARCHAR(16) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	size BIGINT NOT NULL, 
	data_start BIGINT NOT NULL, 
	data_length BIGINT NOT NULL, 
	meta_start BIGINT NOT NULL, 
	meta_length BIGINT NOT NULL, 
	index_start BIGINT NOT NULL, 
	index_length BIGINT NOT NULL, 
	file_count INTEGER NOT NULL, 
	name_ms_first BIGINT NOT NULL, 
	name_ms_last BIGINT NOT NULL, 
	data_bytes BIGINT NOT NULL, 
	node VARCHAR(36) NOT NULL, 
	etag TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	stored_at BIGINT, 
	CONSTRAINT pk_des_containers PRIMARY KEY (container_id), 
	CONSTRAINT ck_des_containers_day CHECK (length(day) = 8), 
	CONSTRAINT ck_des_containers_run CHECK (shard_span >= 1 AND (shard_span & (shard_span - 1)) = 0 AND shard_id >= 0 AND shard_id % shard_span = 0), 
	CONSTRAINT ck_des_containers_hash CHECK (shard_bits BETWEEN 0 AND 32 AND 0 <= hash_first AND hash_first < hash_stop AND hash_stop <= 4294967296), 
	CONSTRAINT ck_des_containers_state CHECK ((state = 'uploading' AND etag = '' AND stored_at IS NULL) OR (state = 'stored' AND etag <> '' AND stored_at IS NOT NULL)), 
	CONSTRAINT ck_des_containers_sha256 CHECK (length(sha256) = 64), 
	CONSTRAINT ck_des_containers_geometry CHECK (size > 0 AND data_start >= 0 AND data_length >= 0 AND meta_start >= 0 AND meta_length >= 0 AND index_start >= 0 AND index_length >= 0 AND data_start + data_length <= size AND meta_start + meta_length <= size AND index_start + index_length <= size), 
	CONSTRAINT ck_des_containers_counts CHECK (file_count >= 0 AND data_bytes >= 0 AND name_ms_first <= name_ms_last AND epoch >= 0), 
	CONSTRAINT uq_des_containers_key UNIQUE ("key")
);
INSERT INTO "des_containers" VALUES('0193a000-0000-7000-8000-000000000001','20260228',8,1,8,134217728,150994944,'20260228/08/1.des','stored',5,'framed','0000000000000000000000000000000000000000000000000000000000000001',10000000000,16,9000000000,9000000016,0,9000000016,500000000,100,1772236800000,1772236900000,20000000000,'0193a000-0000-7000-8000-0000000000cc','"e1"',1772236850000,1772236900000);
INSERT INTO "des_containers" VALUES('0193a000-0000-7000-8000-000000000002','20260228',8,1,8,134217728,150994944,'20260228/08/2.des','uploading',5,'framed','0000000000000000000000000000000000000000000000000000000000000002',10000000000,16,9000000000,9000000016,0,9000000016,500000000,100,1772236800000,1772236900000,20000000000,'0193a000-0000-7000-8000-0000000000cc','',1772236850000,NULL);
CREATE TABLE des_nodes (
	node VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	address VARCHAR(255) NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	boot_epoch BIGINT NOT NULL, 
	heartbeat_at BIGINT NOT NULL, 
	CONSTRAINT pk_des_nodes PRIMARY KEY (node)
);
INSERT INTO "des_nodes" VALUES('0193a000-0000-7000-8000-0000000000cc','anna','127.0.0.1:7420','0.1.0',3,1772236800123);
CREATE TABLE des_shard_locks (
	shard_id BIGINT NOT NULL, 
	holder VARCHAR(36) NOT NULL, 
	epoch BIGINT NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	heartbeat_at BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	state VARCHAR(8) NOT NULL, 
	CONSTRAINT pk_des_shard_locks PRIMARY KEY (shard_id), 
	CONSTRAINT ck_des_shard_locks_shard CHECK (shard_id >= 0), 
	CONSTRAINT ck_des_shard_locks_epoch CHECK (epoch >= 0), 
	CONSTRAINT ck_des_shard_locks_state CHECK ((state = 'held' AND holder <> '') OR (state = 'free' AND holder = '' AND expires_at = 0))
);
INSERT INTO "des_shard_locks" VALUES(8,'0193a000-0000-7000-8000-00000000000a',5,1772236800000,1772236801000,1772236831000,'held');
INSERT INTO "des_shard_locks" VALUES(9,'',4,1772236800000,1772236801000,0,'free');
CREATE TABLE des_store (
	singleton SMALLINT NOT NULL, 
	store_id VARCHAR(36) NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_des_store PRIMARY KEY (singleton), 
	CONSTRAINT ck_des_store_one_row CHECK (singleton = 1)
);
INSERT INTO "des_store" VALUES(1,'0193a000-0000-4000-8000-00000000aaaa',1772236800000);
CREATE INDEX ix_des_containers_day_state_hash_first ON des_containers (day, state, hash_first);
COMMIT;
