// The fields of two corrections, carried to where the mesh has them now, and mixed.

uniform sampler2D u_apart;                 // how far each place has come since both, grid pixels
uniform sampler2DArray u_before, u_after;  // layers: flow and paint; light; picture
uniform sampler2D u_outside;               // of the face's oval
uniform vec2 u_grid;
uniform float u_share, u_strength;

in vec2 v_uv;

layout(location = 0) out vec4 f_moving;
layout(location = 1) out vec4 f_light;
layout(location = 2) out vec4 f_picture;

void main() {
    vec4 was_at = v_uv.xyxy + texture(u_apart, v_uv) / u_grid.xyxy;
    vec3 parts[3];
    for (int i = 0; i < 3; ++i)
        parts[i] = mix(textureLod(u_before, vec3(was_at.xy, float(i)), 0.0).rgb,
                       textureLod(u_after, vec3(was_at.zw, float(i)), 0.0).rgb, u_share);
    f_moving = vec4(u_strength * texture(u_outside, v_uv).r * parts[0], 1.0);
    f_light = vec4(u_strength * parts[1], 1.0);
    f_picture = vec4(parts[2], 1.0);
}
