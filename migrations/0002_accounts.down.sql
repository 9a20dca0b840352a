DROP TABLE setup_links;
DROP TABLE sessions;
DROP TABLE user_logins;
DROP TABLE users;
