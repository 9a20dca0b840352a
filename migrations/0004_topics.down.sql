DROP TABLE access_grants;
DROP TABLE purged_topics;
DROP TABLE topics;
