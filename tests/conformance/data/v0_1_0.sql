BEGIN TRANSACTION;
CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, event TEXT NOT NULL);
CREATE TABLE beats (process TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "beats" VALUES('p-old',4102444800.0);
CREATE TABLE denied (
        id TEXT PRIMARY KEY, deny_until REAL NOT NULL, expire_time REAL NOT NULL,
        position INTEGER NOT NULL, link TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "denied" VALUES('t0',4102531200.0,4102531200.0,4,'MZR01bWPCd4');
INSERT INTO "denied" VALUES('t1',4102531200.0,4102531200.0,5,'XkN1arfUqXU');
INSERT INTO "denied" VALUES('t2',4102531200.0,4102531200.0,6,'h3AmtvO3uRo');
INSERT INTO "denied" VALUES('t3',4102531200.0,4102531200.0,7,'pzXZon0AwOk');
INSERT INTO "denied" VALUES('t4',4102531200.0,4102531200.0,8,'hFoaAICMeyI');
CREATE TABLE ended (
        id TEXT PRIMARY KEY, deny_until REAL NOT NULL, end_until REAL NOT NULL, expire_time REAL NOT NULL,
        position INTEGER NOT NULL, link TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "ended" VALUES('s-ended',4102531200.0,4105123200.0,4105123200.0,9,'3AxHwoRVCrM');
CREATE TABLE generations (
        principal TEXT PRIMARY KEY, number INTEGER NOT NULL, link TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "generations" VALUES('u_1',1,'raised');
CREATE TABLE head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch TEXT NOT NULL, position INTEGER NOT NULL, link TEXT NOT NULL,
        floor INTEGER NOT NULL DEFAULT 0, retention REAL NOT NULL DEFAULT 0);
INSERT INTO "head" VALUES(1,'e0',11,'TPQo6mya7ug',0,87020.0);
CREATE TABLE log (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        link TEXT NOT NULL, previous_link TEXT NOT NULL, time REAL NOT NULL, change TEXT NOT NULL);
INSERT INTO "log" VALUES(1,'wACddWFh_Ms','',4102444800.0,'{"k":"record","id":"billing","kind":"client"}');
INSERT INTO "log" VALUES(2,'TtgTFznE1sg','wACddWFh_Ms',4102444800.0,'{"k":"record","id":"u_1","kind":"user"}');
INSERT INTO "log" VALUES(3,'R192CNgxGB0','TtgTFznE1sg',4102444800.0,'{"k":"record","id":"key-1","kind":"key"}');
INSERT INTO "log" VALUES(4,'MZR01bWPCd4','R192CNgxGB0',4102444800.0,'{"k":"deny","id":"t0","until":4102531200.0}');
INSERT INTO "log" VALUES(5,'XkN1arfUqXU','MZR01bWPCd4',4102444800.0,'{"k":"deny","id":"t1","until":4102531200.0}');
INSERT INTO "log" VALUES(6,'h3AmtvO3uRo','XkN1arfUqXU',4102444800.0,'{"k":"deny","id":"t2","until":4102531200.0}');
INSERT INTO "log" VALUES(7,'pzXZon0AwOk','h3AmtvO3uRo',4102444800.0,'{"k":"deny","id":"t3","until":4102531200.0}');
INSERT INTO "log" VALUES(8,'hFoaAICMeyI','pzXZon0AwOk',4102444800.0,'{"k":"deny","id":"t4","until":4102531200.0}');
INSERT INTO "log" VALUES(9,'3AxHwoRVCrM','hFoaAICMeyI',4102444800.0,'{"k":"end","id":"s-ended","until":4102531200.0,"end":4105123200.0}');
INSERT INTO "log" VALUES(10,'raised','3AxHwoRVCrM',4102444800.0,'{"k":"gen","id":"u_1","number":1}');
INSERT INTO "log" VALUES(11,'TPQo6mya7ug','raised',4102444800.0,'{"k":"record","id":"key-1","kind":"key"}');
CREATE TABLE names (
        kind TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
INSERT INTO "names" VALUES('client','dns:billing.example','billing');
INSERT INTO "names" VALUES('client','spiffe://example/billing','billing');
INSERT INTO "names" VALUES('user','alice','u_1');
CREATE TABLE records (
        kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL,
        epoch TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
INSERT INTO "records" VALUES('client','billing','{"client_id":"billing","display_name":"Billing \"nightly\" \\ ☃","secrets":[["00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff",null,null],["6262626262626262626262626262626262626262626262626262626262626262",4102489815.25,4102489815.25]],"certificates":["dns:billing.example","spiffe://example/billing"],"public_keys":["{\"kty\":\"EC\",\"kid\":\"a\"}","{\"kty\":\"EC\",\"kid\":\"b\"}"],"grants":["client_credentials","refresh_token"],"audiences":["https://stock.example","orders"],"scopes":["orders.read","orders.write"],"max_lifetime":300.0,"on_reuse":"refuse","require_binding":true,"exchange_audiences":["orders"],"encryption_key":"{\"kty\":\"EC\",\"kid\":\"e\"}","disabled":true,"create_time":4102489815.25}','e0',1);
INSERT INTO "records" VALUES('user','u_1','{"user_id":"u_1","username":"alice","display_name":"Alice","password_hash":"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA","audiences":["orders"],"scopes":["orders.read"],"disabled":true,"create_time":4102489815.25}','e0',2);
CREATE TABLE requests (
        principal TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, expire_time REAL NOT NULL,
        position INTEGER NOT NULL, link TEXT NOT NULL, PRIMARY KEY (principal, id)) WITHOUT ROWID;
INSERT INTO "requests" VALUES('u_1','r1',1,4102531200.0,10,'raised');
CREATE TABLE sessions (
        id TEXT PRIMARY KEY, version INTEGER NOT NULL, expire_time REAL NOT NULL,
        value TEXT NOT NULL, subject TEXT NOT NULL DEFAULT '', client_id TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
INSERT INTO "sessions" VALUES('s-alive',1,4105123200.0,'{"sid":"s-alive","sub":"u_1","client":"billing","aud":["orders","stock"],"scope":["orders.write","orders.read"],"life":900.0,"claims":{"tenant":"t1","nested":{"list":[1,2.5,null,true,"é"]}},"gen":{"u_1":"3.l-3"},"auth":4102489815.25,"expire":4105123200.0,"device":"Alice’s laptop","peer":"192.0.2.1:5000","may_act":null,"cert":"01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe","encryption":"none","key":"refresh-1","latest":7,"parent":6,"refresh":4102489875.25,"times":{"6":4102489815.25,"5":4102489795.25}}','u_1','billing');
INSERT INTO "sessions" VALUES('s-ended',1,4105123200.0,'{"sid":"s-ended","sub":"u_1","client":"billing","aud":["orders","stock"],"scope":["orders.write","orders.read"],"life":900.0,"claims":{"tenant":"t1","nested":{"list":[1,2.5,null,true,"é"]}},"gen":{"u_1":"3.l-3"},"auth":4102489815.25,"expire":4105123200.0,"device":"Alice’s laptop","peer":"192.0.2.1:5000","may_act":null,"cert":"01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe01fe","encryption":"none","key":"refresh-1","latest":7,"parent":6,"refresh":4102489875.25,"times":{"6":4102489815.25,"5":4102489795.25}}','u_1','billing');
CREATE TABLE used (id TEXT PRIMARY KEY, expire_time REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "used" VALUES('jti',4102531200.0);
CREATE INDEX denied_by_expire_time ON denied (expire_time);
CREATE INDEX ended_by_expire_time ON ended (expire_time);
CREATE INDEX requests_by_expire_time ON requests (expire_time);
CREATE INDEX sessions_by_expire_time ON sessions (expire_time);
CREATE INDEX names_by_id ON names (kind, id);
CREATE INDEX sessions_by_subject ON sessions (subject, expire_time, id);
CREATE INDEX sessions_by_client ON sessions (client_id, expire_time, id);
CREATE INDEX used_by_expire_time ON used (expire_time);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('log',11);
COMMIT;
PRAGMA user_version = 2;
