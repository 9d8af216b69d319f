"""Converts every part of a pipeline folder to every type, and the results to each other, and compares all of it with the gguf package and torch.

usage: convert_check.py FLUX1 PIPELINE…   (not a part of the tests; prints what differs)
"""
import subprocess, sys, os, json, glob, itertools, tempfile
import numpy as np, torch, gguf
from gguf import GGUFReader
from safetensors import safe_open
from safetensors.torch import load_file
exe=sys.argv[1]
tmp=tempfile.mkdtemp(prefix='cvchk')
def read(path):
    """name -> float32 array (row-major), stored type"""
    out={}
    if path.endswith('.gguf'):
        r=GGUFReader(path)
        for t in r.tensors:
            v=gguf.quants.dequantize(t.data,t.tensor_type) if t.tensor_type.name not in('F32',) else t.data
            out[t.name]=(np.asarray(v,np.float32).reshape([int(x) for x in reversed(t.shape)]),t.tensor_type.name)
        return out
    sd=load_file(path)
    for k,v in sd.items():
        if k.endswith('.scale_weight') or k=='scaled_fp8': continue
        f=v.float()
        s=sd.get(k[:-7]+'.scale_weight') if k.endswith('.weight') else None
        if s is not None: f=f*s.float()
        out[k]=(f.numpy(),str(v.dtype).replace('torch.',''))
    return out
def run(*a,ok=True):
    p=subprocess.run([exe,'convert',*a,'-q'],capture_output=True,text=True)
    if ok and p.returncode: print('FAIL',a,p.stderr); return False
    return p
pipe=sys.argv[2]
TOL={'F32':0,'F16':1e-3,'BF16':5e-3,'Q8_0':8e-3,'Q4_0':.12,'Q4_1':.12,'Q5_0':.06,'Q5_1':.06,'Q2_K':.36,'Q3_K':.2,'Q4_K':.11,'Q5_K':.06,'Q6_K':.03,'float8_e4m3fn':.04,'float8_e5m2':.08,'float32':0,'float16':1e-3,'bfloat16':5e-3}
def compare(ref,got,what):
    if set(ref)!=set(got): print('NAMES',what,sorted(set(ref)^set(got))[:6]); return
    for k in ref:
        a,(b,t)=ref[k][0],got[k]
        if a.shape!=b.shape: print('SHAPE',what,k,a.shape,b.shape); continue
        e=np.linalg.norm(a-b)/max(np.linalg.norm(a),1e-30)
        if not e<=TOL[t]: print('VALUE',what,k,t,e)
for part in ('transformer','t5','clip','vae'):
    base={}
    for ext in ('safetensors','gguf'):
        f=f'{tmp}/{part}-f32.{ext}'
        run(pipe,f,'--part',part,'--type','f32'); base[ext]=read(f)
    for ty in 'f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k'.split():
        f=f'{tmp}/{part}-{ty}.gguf'
        if run(pipe,f,'--part',part,'--type',ty): compare(base['gguf'],read(f),f)
        # and back: the same values exactly as gguf's own dequantisation
        g=f'{tmp}/{part}-{ty}-back.safetensors'
        if run(f,g,'--type','f32'):
            if part=='t5':
                h=f'{tmp}/{part}-{ty}-again.gguf'; run(g,h,'--type','f32'); b=read(h)
            else: b=read(g)
            a=read(f)
            for k in a:
                if not np.array_equal(a[k][0],b[k][0]): print('BACK',f,k,abs(a[k][0]-b[k][0]).max())
        # gguf to gguf keep: the same bytes
        h=f'{tmp}/{part}-{ty}-keep.gguf'; run(f,h)
        ra,rb=GGUFReader(f),GGUFReader(h)
        for x,y in zip(ra.tensors,rb.tensors):
            if x.name!=y.name or not np.array_equal(x.data,y.data): print('KEEP',f,x.name)
    for ty in 'f16 bf16 fp8 fp8_e5m2 fp8_scaled fp8_e5m2_scaled'.split():
        f=f'{tmp}/{part}-{ty}.safetensors'
        if run(pipe,f,'--part',part,'--type',ty): compare(base['safetensors'],read(f),f)
        g=f'{tmp}/{part}-{ty}-keep.safetensors'; run(f,g)
        a,b=load_file(f),load_file(g)
        if set(a)!=set(b) or any(not torch.equal(a[k].view(torch.uint8) if a[k].dim() else a[k],b[k].view(torch.uint8) if b[k].dim() else b[k]) for k in a): print('KEEP',f)
        # torch's own rounding
        for k,v in a.items():
            if not k.endswith('.weight') or v.dtype not in (torch.float8_e4m3fn,torch.float8_e5m2,torch.bfloat16,torch.float16): continue
            w=torch.from_numpy(base['safetensors'][k][0]); s=a.get(k[:-7]+'.scale_weight')
            if s is not None:
                m=torch.finfo(v.dtype).max
                if s!=w.abs().max()/m: print('SCALE',f,k)
                w=(w/s).clamp(-m,m)
            if not torch.equal(w.to(v.dtype).view(torch.uint8),v.view(torch.uint8)): print('TORCH',f,k)
        if part in('transformer','vae'):
            d=f'{tmp}/{part}-{ty}-d.safetensors'; run(f,d,'--names','diffusers'); e=f'{tmp}/{part}-{ty}-b.safetensors'; run(d,e)
            compare({k:(v[0],'') for k,v in read(f).items()},{k:(v[0],v[1]) for k,v in read(e).items()},e)
    # gguf's own quantiser
    for ty in ('q8_0','q4_0','q4_1','q5_0','q5_1'):
        r=GGUFReader(f'{tmp}/{part}-{ty}.gguf')
        n=0
        for t in r.tensors:
            if t.tensor_type.name==ty.upper():
                n+=1
                q=gguf.quants.quantize(base['gguf'][t.name][0],t.tensor_type)
                if not np.array_equal(q,t.data): print('QUANT',ty,t.name)
        print(part,ty,n,'tensors quantised as by gguf')
    # original names
    src={}
    for fn in glob.glob(f"{pipe}/{dict(transformer='transformer',t5='text_encoder_2',clip='text_encoder',vae='vae')[part]}/*.safetensors"): src.update(load_file(fn))
    d=f'{tmp}/{part}-dd.safetensors'; run(pipe,d,'--part',part,'--names','diffusers'); got=load_file(d)
    src={k:v for k,v in src.items() if 'position_ids' not in k and not(k=='encoder.embed_tokens.weight')}
    if set(src)!=set(got): print('DIFFUSERS names',part,sorted(set(src)^set(got))[:5])
    elif any(src[k].dtype!=got[k].dtype or not torch.equal(src[k],got[k]) for k in src): print('DIFFUSERS values',part)
subprocess.run(['rm','-rf',tmp])
