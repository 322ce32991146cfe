"""Fetching files: exact, resumable, verified, several at a time.

In: `Order`s. Out: whole and verified files in their folders; `progress` on the way.
`all_files` is the way in; `Order`, `Remote` and `Limits` are what it is told. One download is
`download`, one version of its bytes `attempt`, one request `wire`, what is on disk `partial`.
"""
