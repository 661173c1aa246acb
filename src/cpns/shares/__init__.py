"""Shares: how much of what is finite each party may take. Pure: time is handed in, nothing waits here.

A party that proved nothing costs little, and nobody takes another's share.
"""
