import asyncio, time
from collections import Counter
from pathlib import Path
import os
from tests.serving.conftest import SERVICE, Training
from tests.serving.test_drain import server, TOKEN
import pytest
def test_over(settings, register, tmp_path, monkeypatch):
    register()
    for limit, conns in ((256,1),(256,200),(8,200),(32,400)):
        monkeypatch.setenv("DAIMA_API_IN_FLIGHT", str(limit))
        with server(settings, tmp_path) as (url, process):
            port=int(url.rsplit(":",1)[1])
            body=b'{"customer": "c1"}'
            req=(f"POST /v1/predict/{SERVICE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n").encode()+body
            async def one(times, seen, end):
                r,w=await asyncio.open_connection("127.0.0.1",port)
                while time.perf_counter()<end:
                    t=time.perf_counter(); w.write(req)
                    head=await r.readuntil(b"\r\n\r\n")
                    n=int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]); await r.readexactly(n)
                    st=int(head[9:12]); seen[st]+=1
                    times.setdefault(st,[]).append(time.perf_counter()-t)
                w.close()
            async def main():
                seen=Counter(); times={}; end=time.perf_counter()+6
                await asyncio.gather(*[one(times,seen,end) for _ in range(conns)])
                print(limit,conns,seen,{st:(f"p50 {sorted(v)[len(v)//2]*1e3:.2f} ms", f"p99 {sorted(v)[int(len(v)*.99)]*1e3:.2f} ms") for st,v in times.items()})
            asyncio.run(main())
