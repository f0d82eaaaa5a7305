# The README's first command, in a container, on its cores:
#     docker build -t taichi2dgs . && docker run --rm -v "$PWD:/pictures" taichi2dgs encode photo.png
FROM python:3.12-slim
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY . /source
RUN pip install --no-cache-dir '/source[demo]' && rm -r /source
WORKDIR /pictures
RUN taichi2dgs encode sample:astronaut -k 50000 --seconds 10 -o astronaut.t2d \
    && taichi2dgs render astronaut.t2d -o astronaut.png
ENTRYPOINT ["taichi2dgs"]
CMD ["--help"]
