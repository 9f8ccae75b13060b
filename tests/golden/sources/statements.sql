-- postgresql: time
SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT);

-- postgresql: eligible
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status IS NULL AND own.doc.created <= %(created_1)s::TIMESTAMP WITHOUT TIME ZONE AND own.doc.size < %(size_1)s::BIGINT AND (own.doc."Key" LIKE %(Key_1)s::VARCHAR || '%%' ESCAPE '/') AND (own.doc."customer no" IS NULL OR (own.doc."customer no" NOT IN (%(customer_no_1_1)s::VARCHAR, %(customer_no_1_2)s::VARCHAR))) AND (own.doc.id NOT IN (%(id_1_1)s::INTEGER)) ORDER BY own.doc.id LIMIT %(param_1)s::INTEGER FOR UPDATE OF doc SKIP LOCKED;

-- postgresql: claimable
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status = %(des_status_1)s::VARCHAR AND own.doc.des_shard = %(des_shard_1)s::BIGINT AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= %(des_claim_expires_1)s::BIGINT) ORDER BY own.doc.id LIMIT %(param_1)s::INTEGER FOR UPDATE OF doc SKIP LOCKED;

-- postgresql: abandoned
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status = %(des_status_1)s::VARCHAR AND own.doc.des_shard = %(des_shard_1)s::BIGINT AND (own.doc.des_claim_expires <= %(des_claim_expires_1)s::BIGINT OR (own.doc.des_claim LIKE %(des_claim_1)s::VARCHAR || '%%' ESCAPE '/')) AND own.doc.id > %(id_1)s::INTEGER ORDER BY own.doc.id LIMIT %(param_1)s::INTEGER FOR UPDATE OF doc SKIP LOCKED;

-- postgresql: named_rows
SELECT own.doc.id AS id, own.doc.des_name AS name FROM own.doc WHERE own.doc.des_status = %(des_status_1)s::VARCHAR AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= %(des_claim_expires_1)s::BIGINT) AND own.doc.id > %(id_1)s::INTEGER ORDER BY own.doc.id LIMIT %(param_1)s::INTEGER;

-- postgresql: lock_ids
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.id IN (%(id_1_1)s::INTEGER, %(id_1_2)s::INTEGER) AND own.doc.des_status = %(des_status_1)s::VARCHAR ORDER BY own.doc.id LIMIT %(param_1)s::INTEGER FOR UPDATE OF doc SKIP LOCKED;

-- postgresql: take
UPDATE own.doc SET des_status=%(des_status)s::VARCHAR, des_claim=%(des_claim)s::VARCHAR, des_claim_expires=%(des_claim_expires)s::BIGINT WHERE own.doc.id IN (%(id_1_1)s::INTEGER, %(id_1_2)s::INTEGER);

-- postgresql: renew
UPDATE own.doc SET des_claim_expires=%(des_claim_expires)s::BIGINT WHERE own.doc.id IN (%(id_1_1)s::INTEGER, %(id_1_2)s::INTEGER) AND own.doc.des_status = %(des_status_1)s::VARCHAR AND own.doc.des_claim = %(des_claim_1)s::VARCHAR;

-- postgresql: mark
UPDATE own.doc SET des_status=%(des_status)s::VARCHAR, des_name=%(new_name)s::VARCHAR, des_claim=%(des_claim)s::VARCHAR, des_error=%(des_error)s::VARCHAR, des_hash=%(new_hash)s::BIGINT, des_shard=%(new_shard)s::BIGINT, des_claim_expires=%(des_claim_expires)s::BIGINT, des_attempts=%(des_attempts)s::BIGINT WHERE own.doc.id = %(row_id)s::INTEGER;

-- postgresql: pack
UPDATE own.doc SET des_status=%(des_status)s::VARCHAR, des_claim=%(des_claim)s::VARCHAR, des_error=%(des_error)s::VARCHAR, des_container=%(new_container)s::VARCHAR, des_checksum=%(new_checksum)s::VARCHAR, des_claim_expires=%(des_claim_expires)s::BIGINT WHERE own.doc.id = %(row_id)s::INTEGER AND own.doc.des_name = %(row_name)s::VARCHAR AND own.doc."Key" = %(row_key)s::VARCHAR AND own.doc.des_status = %(des_status_1)s::VARCHAR AND own.doc.des_claim = %(des_claim_1)s::VARCHAR AND own.doc.bucket = %(row_bucket)s::VARCHAR;

-- postgresql: give_back
UPDATE own.doc SET des_status=%(new_status)s::VARCHAR, des_claim=%(des_claim)s::VARCHAR, des_error=%(reason)s::VARCHAR, des_claim_expires=%(not_before)s::BIGINT, des_attempts=%(new_attempts)s::BIGINT WHERE own.doc.id = %(row_id)s::INTEGER AND own.doc.des_status = %(des_status_1)s::VARCHAR AND own.doc.des_claim = %(des_claim_1)s::VARCHAR;

-- postgresql: counts
SELECT own.doc.des_status AS status, count(*) AS rows FROM own.doc GROUP BY own.doc.des_status;

-- postgresql: failed
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.des_attempts AS attempts, own.doc.des_error AS error FROM own.doc WHERE own.doc.des_status = %(des_status_1)s::VARCHAR AND (own.doc.des_error LIKE %(des_error_1)s::VARCHAR || '%%' ESCAPE '/') AND own.doc.id > %(id_1)s::INTEGER ORDER BY own.doc.id LIMIT %(param_1)s::INTEGER;

-- postgresql: revive
UPDATE own.doc SET des_status=%(new_status)s::VARCHAR, des_name=%(new_name)s::VARCHAR, des_claim=%(des_claim)s::VARCHAR, des_error=%(des_error)s::VARCHAR, des_claim_expires=%(des_claim_expires)s::BIGINT, des_attempts=%(des_attempts)s::BIGINT WHERE own.doc.id = %(row_id)s::INTEGER AND own.doc.des_status = %(des_status_1)s::VARCHAR;

-- postgresql: what `des sources check` proposes
ALTER TABLE own.doc ADD COLUMN des_status VARCHAR(16);
ALTER TABLE own.doc ADD COLUMN des_name VARCHAR(59);
ALTER TABLE own.doc ADD COLUMN des_hash BIGINT;
ALTER TABLE own.doc ADD COLUMN des_shard INTEGER;
ALTER TABLE own.doc ADD COLUMN des_claim VARCHAR(64);
ALTER TABLE own.doc ADD COLUMN des_claim_expires BIGINT;
ALTER TABLE own.doc ADD COLUMN des_attempts INTEGER;
ALTER TABLE own.doc ADD COLUMN des_error VARCHAR(500);
ALTER TABLE own.doc ADD COLUMN des_container VARCHAR(36);
ALTER TABLE own.doc ADD COLUMN des_checksum VARCHAR(64);
CREATE INDEX ix_doc_des_claim ON own.doc (des_status, des_shard, id);
CREATE INDEX ix_doc_des_mark ON own.doc (des_status, id);
CREATE UNIQUE INDEX ix_doc_des_name ON own.doc (des_name);

-- mysql: time
SELECT (TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000);

-- mysql: eligible
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.des_status IS NULL AND own.doc.created <= %s AND own.doc.size < %s AND (own.doc.`Key` LIKE concat(%s, '%%') ESCAPE '/') AND (own.doc.`customer no` IS NULL OR (own.doc.`customer no` NOT IN (%s, %s))) AND (own.doc.id NOT IN (%s)) ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mysql: claimable
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.des_status = %s AND own.doc.des_shard = %s AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= %s) ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mysql: abandoned
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.des_status = %s AND own.doc.des_shard = %s AND (own.doc.des_claim_expires <= %s OR (own.doc.des_claim LIKE concat(%s, '%%') ESCAPE '/')) AND own.doc.id > %s ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mysql: named_rows
SELECT own.doc.id AS id, own.doc.des_name AS name FROM own.doc WHERE own.doc.des_status = %s AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= %s) AND own.doc.id > %s ORDER BY own.doc.id LIMIT %s;

-- mysql: lock_ids
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.id IN (%s, %s) AND own.doc.des_status = %s ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mysql: take
UPDATE own.doc SET des_status=%s, des_claim=%s, des_claim_expires=%s WHERE own.doc.id IN (%s, %s);

-- mysql: renew
UPDATE own.doc SET des_claim_expires=%s WHERE own.doc.id IN (%s, %s) AND own.doc.des_status = %s AND own.doc.des_claim = %s;

-- mysql: mark
UPDATE own.doc SET des_status=%s, des_name=%s, des_claim=%s, des_error=%s, des_hash=%s, des_shard=%s, des_claim_expires=%s, des_attempts=%s WHERE own.doc.id = %s;

-- mysql: pack
UPDATE own.doc SET des_status=%s, des_claim=%s, des_error=%s, des_container=%s, des_checksum=%s, des_claim_expires=%s WHERE own.doc.id = %s AND own.doc.des_name = %s AND own.doc.`Key` = %s AND own.doc.des_status = %s AND own.doc.des_claim = %s AND own.doc.bucket = %s;

-- mysql: give_back
UPDATE own.doc SET des_status=%s, des_claim=%s, des_error=%s, des_claim_expires=%s, des_attempts=%s WHERE own.doc.id = %s AND own.doc.des_status = %s AND own.doc.des_claim = %s;

-- mysql: counts
SELECT own.doc.des_status AS status, count(*) AS `rows` FROM own.doc GROUP BY own.doc.des_status;

-- mysql: failed
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.des_attempts AS attempts, own.doc.des_error AS error FROM own.doc WHERE own.doc.des_status = %s AND (own.doc.des_error LIKE concat(%s, '%%') ESCAPE '/') AND own.doc.id > %s ORDER BY own.doc.id LIMIT %s;

-- mysql: revive
UPDATE own.doc SET des_status=%s, des_name=%s, des_claim=%s, des_error=%s, des_claim_expires=%s, des_attempts=%s WHERE own.doc.id = %s AND own.doc.des_status = %s;

-- mysql: what `des sources check` proposes
ALTER TABLE own.doc ADD COLUMN des_status VARCHAR(16);
ALTER TABLE own.doc ADD COLUMN des_name VARCHAR(59);
ALTER TABLE own.doc ADD COLUMN des_hash BIGINT;
ALTER TABLE own.doc ADD COLUMN des_shard INTEGER;
ALTER TABLE own.doc ADD COLUMN des_claim VARCHAR(64);
ALTER TABLE own.doc ADD COLUMN des_claim_expires BIGINT;
ALTER TABLE own.doc ADD COLUMN des_attempts INTEGER;
ALTER TABLE own.doc ADD COLUMN des_error VARCHAR(500);
ALTER TABLE own.doc ADD COLUMN des_container VARCHAR(36);
ALTER TABLE own.doc ADD COLUMN des_checksum VARCHAR(64);
CREATE INDEX ix_doc_des_claim ON own.doc (des_status, des_shard, id);
CREATE INDEX ix_doc_des_mark ON own.doc (des_status, id);
CREATE UNIQUE INDEX ix_doc_des_name ON own.doc (des_name);

-- mariadb: time
SELECT (TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000);

-- mariadb: eligible
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.des_status IS NULL AND own.doc.created <= %s AND own.doc.size < %s AND (own.doc.`Key` LIKE concat(%s, '%%') ESCAPE '/') AND (own.doc.`customer no` IS NULL OR (own.doc.`customer no` NOT IN (%s, %s))) AND (own.doc.id NOT IN (%s)) ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mariadb: claimable
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.des_status = %s AND own.doc.des_shard = %s AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= %s) ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mariadb: abandoned
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.des_status = %s AND own.doc.des_shard = %s AND (own.doc.des_claim_expires <= %s OR (own.doc.des_claim LIKE concat(%s, '%%') ESCAPE '/')) AND own.doc.id > %s ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mariadb: named_rows
SELECT own.doc.id AS id, own.doc.des_name AS name FROM own.doc WHERE own.doc.des_status = %s AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= %s) AND own.doc.id > %s ORDER BY own.doc.id LIMIT %s;

-- mariadb: lock_ids
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.`Key` AS `key`, own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.`customer no` AS metadata_0 FROM own.doc WHERE own.doc.id IN (%s, %s) AND own.doc.des_status = %s ORDER BY own.doc.id LIMIT %s FOR UPDATE SKIP LOCKED;

-- mariadb: take
UPDATE own.doc SET des_status=%s, des_claim=%s, des_claim_expires=%s WHERE own.doc.id IN (%s, %s);

-- mariadb: renew
UPDATE own.doc SET des_claim_expires=%s WHERE own.doc.id IN (%s, %s) AND own.doc.des_status = %s AND own.doc.des_claim = %s;

-- mariadb: mark
UPDATE own.doc SET des_status=%s, des_name=%s, des_claim=%s, des_error=%s, des_hash=%s, des_shard=%s, des_claim_expires=%s, des_attempts=%s WHERE own.doc.id = %s;

-- mariadb: pack
UPDATE own.doc SET des_status=%s, des_claim=%s, des_error=%s, des_container=%s, des_checksum=%s, des_claim_expires=%s WHERE own.doc.id = %s AND own.doc.des_name = %s AND own.doc.`Key` = %s AND own.doc.des_status = %s AND own.doc.des_claim = %s AND own.doc.bucket = %s;

-- mariadb: give_back
UPDATE own.doc SET des_status=%s, des_claim=%s, des_error=%s, des_claim_expires=%s, des_attempts=%s WHERE own.doc.id = %s AND own.doc.des_status = %s AND own.doc.des_claim = %s;

-- mariadb: counts
SELECT own.doc.des_status AS status, count(*) AS `rows` FROM own.doc GROUP BY own.doc.des_status;

-- mariadb: failed
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.des_attempts AS attempts, own.doc.des_error AS error FROM own.doc WHERE own.doc.des_status = %s AND (own.doc.des_error LIKE concat(%s, '%%') ESCAPE '/') AND own.doc.id > %s ORDER BY own.doc.id LIMIT %s;

-- mariadb: revive
UPDATE own.doc SET des_status=%s, des_name=%s, des_claim=%s, des_error=%s, des_claim_expires=%s, des_attempts=%s WHERE own.doc.id = %s AND own.doc.des_status = %s;

-- mariadb: what `des sources check` proposes
ALTER TABLE own.doc ADD COLUMN des_status VARCHAR(16);
ALTER TABLE own.doc ADD COLUMN des_name VARCHAR(59);
ALTER TABLE own.doc ADD COLUMN des_hash BIGINT;
ALTER TABLE own.doc ADD COLUMN des_shard INTEGER;
ALTER TABLE own.doc ADD COLUMN des_claim VARCHAR(64);
ALTER TABLE own.doc ADD COLUMN des_claim_expires BIGINT;
ALTER TABLE own.doc ADD COLUMN des_attempts INTEGER;
ALTER TABLE own.doc ADD COLUMN des_error VARCHAR(500);
ALTER TABLE own.doc ADD COLUMN des_container VARCHAR(36);
ALTER TABLE own.doc ADD COLUMN des_checksum VARCHAR(64);
CREATE INDEX ix_doc_des_claim ON own.doc (des_status, des_shard, id);
CREATE INDEX ix_doc_des_mark ON own.doc (des_status, id);
CREATE UNIQUE INDEX ix_doc_des_name ON own.doc (des_name);

-- oracle: time
SELECT ROUND((CAST(SYS_EXTRACT_UTC(SYSTIMESTAMP) AS DATE) - DATE '1970-01-01') * 86400) * 1000 FROM DUAL;

-- oracle: eligible
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc."size" AS "size", own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status IS NULL AND own.doc.created <= :created_1 AND own.doc."size" < :size_1 AND (own.doc."Key" LIKE :Key_1 || '%' ESCAPE '/') AND (own.doc."customer no" IS NULL OR (own.doc."customer no" NOT IN (:customer_no_1_1, :customer_no_1_2))) AND (own.doc.id NOT IN (:id_1_1)) AND own.doc.id IN (SELECT own.doc.id FROM own.doc WHERE own.doc.des_status IS NULL AND own.doc.created <= :created_1 AND own.doc."size" < :size_1 AND (own.doc."Key" LIKE :Key_1 || '%' ESCAPE '/') AND (own.doc."customer no" IS NULL OR (own.doc."customer no" NOT IN (:customer_no_1_1, :customer_no_1_2))) AND (own.doc.id NOT IN (:id_1_1)) ORDER BY own.doc.id FETCH FIRST 500 ROWS ONLY) ORDER BY own.doc.id FOR UPDATE SKIP LOCKED;

-- oracle: claimable
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc."size" AS "size", own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status = :des_status_1 AND own.doc.des_shard = :des_shard_1 AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= :des_claim_expires_1) AND own.doc.id IN (SELECT own.doc.id FROM own.doc WHERE own.doc.des_status = :des_status_1 AND own.doc.des_shard = :des_shard_1 AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= :des_claim_expires_1) ORDER BY own.doc.id FETCH FIRST 500 ROWS ONLY) ORDER BY own.doc.id FOR UPDATE SKIP LOCKED;

-- oracle: abandoned
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc."size" AS "size", own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status = :des_status_1 AND own.doc.des_shard = :des_shard_1 AND (own.doc.des_claim_expires <= :des_claim_expires_1 OR (own.doc.des_claim LIKE :des_claim_1 || '%' ESCAPE '/')) AND own.doc.id > :id_1 AND own.doc.id IN (SELECT own.doc.id FROM own.doc WHERE own.doc.des_status = :des_status_1 AND own.doc.des_shard = :des_shard_1 AND (own.doc.des_claim_expires <= :des_claim_expires_1 OR (own.doc.des_claim LIKE :des_claim_1 || '%' ESCAPE '/')) AND own.doc.id > :id_1 ORDER BY own.doc.id FETCH FIRST 500 ROWS ONLY) ORDER BY own.doc.id FOR UPDATE SKIP LOCKED;

-- oracle: named_rows
SELECT own.doc.id AS id, own.doc.des_name AS name FROM own.doc WHERE own.doc.des_status = :des_status_1 AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= :des_claim_expires_1) AND own.doc.id > :id_1 ORDER BY own.doc.id FETCH FIRST 500 ROWS ONLY;

-- oracle: lock_ids
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS key, own.doc."size" AS "size", own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.id IN (:id_1_1, :id_1_2) AND own.doc.des_status = :des_status_1 AND own.doc.id IN (SELECT own.doc.id FROM own.doc WHERE own.doc.id IN (:id_1_1, :id_1_2) AND own.doc.des_status = :des_status_1 ORDER BY own.doc.id FETCH FIRST 2 ROWS ONLY) ORDER BY own.doc.id FOR UPDATE SKIP LOCKED;

-- oracle: take
UPDATE own.doc SET des_status=:des_status, des_claim=:des_claim, des_claim_expires=:des_claim_expires WHERE own.doc.id IN (:id_1_1, :id_1_2);

-- oracle: renew
UPDATE own.doc SET des_claim_expires=:des_claim_expires WHERE own.doc.id IN (:id_1_1, :id_1_2) AND own.doc.des_status = :des_status_1 AND own.doc.des_claim = :des_claim_1;

-- oracle: mark
UPDATE own.doc SET des_status=:des_status, des_name=:new_name, des_claim=:des_claim, des_error=:des_error, des_hash=:new_hash, des_shard=:new_shard, des_claim_expires=:des_claim_expires, des_attempts=:des_attempts WHERE own.doc.id = :row_id;

-- oracle: pack
UPDATE own.doc SET des_status=:des_status, des_claim=:des_claim, des_error=:des_error, des_container=:new_container, des_checksum=:new_checksum, des_claim_expires=:des_claim_expires WHERE own.doc.id = :row_id AND own.doc.des_name = :row_name AND own.doc."Key" = :row_key AND own.doc.des_status = :des_status_1 AND own.doc.des_claim = :des_claim_1 AND own.doc.bucket = :row_bucket;

-- oracle: give_back
UPDATE own.doc SET des_status=:new_status, des_claim=:des_claim, des_error=:reason, des_claim_expires=:not_before, des_attempts=:new_attempts WHERE own.doc.id = :row_id AND own.doc.des_status = :des_status_1 AND own.doc.des_claim = :des_claim_1;

-- oracle: counts
SELECT own.doc.des_status AS status, count(*) AS rows FROM own.doc GROUP BY own.doc.des_status;

-- oracle: failed
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.des_attempts AS attempts, own.doc.des_error AS error FROM own.doc WHERE own.doc.des_status = :des_status_1 AND (own.doc.des_error LIKE :des_error_1 || '%' ESCAPE '/') AND own.doc.id > :id_1 ORDER BY own.doc.id FETCH FIRST 5 ROWS ONLY;

-- oracle: revive
UPDATE own.doc SET des_status=:new_status, des_name=:new_name, des_claim=:des_claim, des_error=:des_error, des_claim_expires=:des_claim_expires, des_attempts=:des_attempts WHERE own.doc.id = :row_id AND own.doc.des_status = :des_status_1;

-- oracle: what `des sources check` proposes
ALTER TABLE own.doc ADD des_status VARCHAR2(16 CHAR);
ALTER TABLE own.doc ADD des_name VARCHAR2(59 CHAR);
ALTER TABLE own.doc ADD des_hash NUMBER(19);
ALTER TABLE own.doc ADD des_shard INTEGER;
ALTER TABLE own.doc ADD des_claim VARCHAR2(64 CHAR);
ALTER TABLE own.doc ADD des_claim_expires NUMBER(19);
ALTER TABLE own.doc ADD des_attempts INTEGER;
ALTER TABLE own.doc ADD des_error VARCHAR2(500 CHAR);
ALTER TABLE own.doc ADD des_container VARCHAR2(36 CHAR);
ALTER TABLE own.doc ADD des_checksum VARCHAR2(64 CHAR);
CREATE INDEX own.ix_doc_des_claim ON own.doc (des_status, des_shard, id);
CREATE INDEX own.ix_doc_des_mark ON own.doc (des_status, id);
CREATE UNIQUE INDEX own.ix_doc_des_name ON own.doc (des_name);

-- mssql: time
SELECT DATEDIFF_BIG(MILLISECOND, '1970-01-01', SYSUTCDATETIME());

-- mssql: eligible
SELECT TOP 500 own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.[Key] AS [key], own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.[customer no] AS metadata_0 FROM own.doc WITH (UPDLOCK, ROWLOCK, READPAST) WHERE own.doc.des_status IS NULL AND own.doc.created <= :created_1 AND own.doc.size < :size_1 AND (own.doc.[Key] LIKE :Key_1 + '%' ESCAPE '/') AND (own.doc.[customer no] IS NULL OR (own.doc.[customer no] NOT IN (:customer_no_1_1, :customer_no_1_2))) AND (own.doc.id NOT IN (:id_1_1)) ORDER BY own.doc.id;

-- mssql: claimable
SELECT TOP 500 own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.[Key] AS [key], own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.[customer no] AS metadata_0 FROM own.doc WITH (UPDLOCK, ROWLOCK, READPAST) WHERE own.doc.des_status = :des_status_1 AND own.doc.des_shard = :des_shard_1 AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= :des_claim_expires_1) ORDER BY own.doc.id;

-- mssql: abandoned
SELECT TOP 500 own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.[Key] AS [key], own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.[customer no] AS metadata_0 FROM own.doc WITH (UPDLOCK, ROWLOCK, READPAST) WHERE own.doc.des_status = :des_status_1 AND own.doc.des_shard = :des_shard_1 AND (own.doc.des_claim_expires <= :des_claim_expires_1 OR (own.doc.des_claim LIKE :des_claim_1 + '%' ESCAPE '/')) AND own.doc.id > :id_1 ORDER BY own.doc.id;

-- mssql: named_rows
SELECT TOP 500 own.doc.id AS id, own.doc.des_name AS name FROM own.doc WHERE own.doc.des_status = :des_status_1 AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= :des_claim_expires_1) AND own.doc.id > :id_1 ORDER BY own.doc.id;

-- mssql: lock_ids
SELECT TOP 2 own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc.[Key] AS [key], own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc.[customer no] AS metadata_0 FROM own.doc WITH (UPDLOCK, ROWLOCK, READPAST) WHERE own.doc.id IN (:id_1_1, :id_1_2) AND own.doc.des_status = :des_status_1 ORDER BY own.doc.id;

-- mssql: take
UPDATE own.doc SET des_status=:des_status, des_claim=:des_claim, des_claim_expires=:des_claim_expires WHERE own.doc.id IN (:id_1_1, :id_1_2);

-- mssql: renew
UPDATE own.doc SET des_claim_expires=:des_claim_expires WHERE own.doc.id IN (:id_1_1, :id_1_2) AND own.doc.des_status = :des_status_1 AND own.doc.des_claim = :des_claim_1;

-- mssql: mark
UPDATE own.doc SET des_status=:des_status, des_name=:new_name, des_claim=:des_claim, des_error=:des_error, des_hash=:new_hash, des_shard=:new_shard, des_claim_expires=:des_claim_expires, des_attempts=:des_attempts WHERE own.doc.id = :row_id;

-- mssql: pack
UPDATE own.doc SET des_status=:des_status, des_claim=:des_claim, des_error=:des_error, des_container=:new_container, des_checksum=:new_checksum, des_claim_expires=:des_claim_expires WHERE own.doc.id = :row_id AND own.doc.des_name = :row_name AND own.doc.[Key] = :row_key AND own.doc.des_status = :des_status_1 AND own.doc.des_claim = :des_claim_1 AND own.doc.bucket = :row_bucket;

-- mssql: give_back
UPDATE own.doc SET des_status=:new_status, des_claim=:des_claim, des_error=:reason, des_claim_expires=:not_before, des_attempts=:new_attempts WHERE own.doc.id = :row_id AND own.doc.des_status = :des_status_1 AND own.doc.des_claim = :des_claim_1;

-- mssql: counts
SELECT own.doc.des_status AS status, count(*) AS rows FROM own.doc GROUP BY own.doc.des_status;

-- mssql: failed
SELECT TOP 5 own.doc.id AS id, own.doc.des_name AS name, own.doc.des_attempts AS attempts, own.doc.des_error AS error FROM own.doc WHERE own.doc.des_status = :des_status_1 AND (own.doc.des_error LIKE :des_error_1 + '%' ESCAPE '/') AND own.doc.id > :id_1 ORDER BY own.doc.id;

-- mssql: revive
UPDATE own.doc SET des_status=:new_status, des_name=:new_name, des_claim=:des_claim, des_error=:des_error, des_claim_expires=:des_claim_expires, des_attempts=:des_attempts WHERE own.doc.id = :row_id AND own.doc.des_status = :des_status_1;

-- mssql: what `des sources check` proposes
ALTER TABLE own.doc ADD des_status VARCHAR(16);
ALTER TABLE own.doc ADD des_name VARCHAR(59);
ALTER TABLE own.doc ADD des_hash BIGINT;
ALTER TABLE own.doc ADD des_shard INTEGER;
ALTER TABLE own.doc ADD des_claim VARCHAR(64);
ALTER TABLE own.doc ADD des_claim_expires BIGINT;
ALTER TABLE own.doc ADD des_attempts INTEGER;
ALTER TABLE own.doc ADD des_error VARCHAR(500);
ALTER TABLE own.doc ADD des_container VARCHAR(36);
ALTER TABLE own.doc ADD des_checksum VARCHAR(64);
CREATE INDEX ix_doc_des_claim ON own.doc (des_status, des_shard, id);
CREATE INDEX ix_doc_des_mark ON own.doc (des_status, id);
CREATE UNIQUE INDEX ix_doc_des_name ON own.doc (des_name);

-- sqlite: time
SELECT (CAST(ROUND(julianday('now') * 86400000.0) AS INTEGER) - 210866760000000);

-- sqlite: eligible
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS "key", own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status IS NULL AND own.doc.created <= ? AND own.doc.size < ? AND (own.doc."Key" LIKE ? || '%' ESCAPE '/') AND (own.doc."customer no" IS NULL OR (own.doc."customer no" NOT IN (?, ?))) AND (own.doc.id NOT IN (?)) ORDER BY own.doc.id LIMIT ? OFFSET ?;

-- sqlite: claimable
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS "key", own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status = ? AND own.doc.des_shard = ? AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= ?) ORDER BY own.doc.id LIMIT ? OFFSET ?;

-- sqlite: abandoned
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS "key", own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.des_status = ? AND own.doc.des_shard = ? AND (own.doc.des_claim_expires <= ? OR (own.doc.des_claim LIKE ? || '%' ESCAPE '/')) AND own.doc.id > ? ORDER BY own.doc.id LIMIT ? OFFSET ?;

-- sqlite: named_rows
SELECT own.doc.id AS id, own.doc.des_name AS name FROM own.doc WHERE own.doc.des_status = ? AND (own.doc.des_claim_expires IS NULL OR own.doc.des_claim_expires <= ?) AND own.doc.id > ? ORDER BY own.doc.id LIMIT ? OFFSET ?;

-- sqlite: lock_ids
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.bucket AS bucket, own.doc."Key" AS "key", own.doc.size AS size, own.doc.des_attempts AS attempts, own.doc.des_claim AS claim_token, own.doc.des_shard AS shard, own.doc."customer no" AS metadata_0 FROM own.doc WHERE own.doc.id IN (?, ?) AND own.doc.des_status = ? ORDER BY own.doc.id LIMIT ? OFFSET ?;

-- sqlite: take
UPDATE own.doc SET des_status=?, des_claim=?, des_claim_expires=? WHERE own.doc.id IN (?, ?);

-- sqlite: renew
UPDATE own.doc SET des_claim_expires=? WHERE own.doc.id IN (?, ?) AND own.doc.des_status = ? AND own.doc.des_claim = ?;

-- sqlite: mark
UPDATE own.doc SET des_status=?, des_name=?, des_claim=?, des_error=?, des_hash=?, des_shard=?, des_claim_expires=?, des_attempts=? WHERE own.doc.id = ?;

-- sqlite: pack
UPDATE own.doc SET des_status=?, des_claim=?, des_error=?, des_container=?, des_checksum=?, des_claim_expires=? WHERE own.doc.id = ? AND own.doc.des_name = ? AND own.doc."Key" = ? AND own.doc.des_status = ? AND own.doc.des_claim = ? AND own.doc.bucket = ?;

-- sqlite: give_back
UPDATE own.doc SET des_status=?, des_claim=?, des_error=?, des_claim_expires=?, des_attempts=? WHERE own.doc.id = ? AND own.doc.des_status = ? AND own.doc.des_claim = ?;

-- sqlite: counts
SELECT own.doc.des_status AS status, count(*) AS rows FROM own.doc GROUP BY own.doc.des_status;

-- sqlite: failed
SELECT own.doc.id AS id, own.doc.des_name AS name, own.doc.des_attempts AS attempts, own.doc.des_error AS error FROM own.doc WHERE own.doc.des_status = ? AND (own.doc.des_error LIKE ? || '%' ESCAPE '/') AND own.doc.id > ? ORDER BY own.doc.id LIMIT ? OFFSET ?;

-- sqlite: revive
UPDATE own.doc SET des_status=?, des_name=?, des_claim=?, des_error=?, des_claim_expires=?, des_attempts=? WHERE own.doc.id = ? AND own.doc.des_status = ?;

-- sqlite: what `des sources check` proposes
ALTER TABLE own.doc ADD COLUMN des_status VARCHAR(16);
ALTER TABLE own.doc ADD COLUMN des_name VARCHAR(59);
ALTER TABLE own.doc ADD COLUMN des_hash BIGINT;
ALTER TABLE own.doc ADD COLUMN des_shard INTEGER;
ALTER TABLE own.doc ADD COLUMN des_claim VARCHAR(64);
ALTER TABLE own.doc ADD COLUMN des_claim_expires BIGINT;
ALTER TABLE own.doc ADD COLUMN des_attempts INTEGER;
ALTER TABLE own.doc ADD COLUMN des_error VARCHAR(500);
ALTER TABLE own.doc ADD COLUMN des_container VARCHAR(36);
ALTER TABLE own.doc ADD COLUMN des_checksum VARCHAR(64);
CREATE INDEX own.ix_doc_des_claim ON doc (des_status, des_shard, id);
CREATE INDEX own.ix_doc_des_mark ON doc (des_status, id);
CREATE UNIQUE INDEX own.ix_doc_des_name ON doc (des_name);
