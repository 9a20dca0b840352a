DROP TABLE applications;
DROP TABLE invitations;
DROP TABLE join_requests;
DROP TABLE team_members;
DROP TABLE teams;
