// Writes how far a place has come.

in vec4 v_apart;

out vec4 f_apart;

void main() {
    f_apart = v_apart;
}
