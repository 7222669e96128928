"""The hub: where members meet. It forwards what it cannot read, keeps the state of jobs, and decides nothing.

`jobs`       the life of a job, as a function
`store`      what is kept, in one SQLite file
`authority`  certificates of members
`desk`       the thread that reads messages to the hub and writes down what follows
`server`     the thread that has the connections: lines, relay seats, invitations
`hub`        all of it together, from a folder
"""
