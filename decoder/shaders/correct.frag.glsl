// The drawn picture moved, lit and painted over. Colours of the fields are 8-bit steps.

uniform sampler2D u_drawn;
uniform sampler2D u_moving, u_light, u_picture;  // flow and paint; light; picture: on the grid
uniform vec2 u_size, u_grid;

in vec2 v_uv;

out vec4 f_colour;

// Cubic convolution (Keys 1981) as OpenCV has it: linear sampling would soften what was sharp.
const float A = -0.75;

vec4 shares(float t) {
    vec4 d = vec4(1.0 + t, t, 1.0 - t, 2.0 - t);
    vec2 far = ((A * d.xw - 5.0 * A) * d.xw + 8.0 * A) * d.xw - 4.0 * A;
    vec2 near = ((A + 2.0) * d.yz - (A + 3.0)) * d.yz * d.yz + 1.0;
    return vec4(far.x, near, far.y);
}

vec3 cubic(sampler2D picture, vec2 at) {
    ivec2 first = ivec2(floor(at)) - 1, last = textureSize(picture, 0) - 1;
    vec4 across = shares(fract(at.x)), down = shares(fract(at.y));
    vec3 sum = vec3(0.0);
    for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 4; ++x)
            sum += across[x] * down[y] * texelFetch(picture, clamp(first + ivec2(x, y), ivec2(0), last), 0).rgb;
    return sum;
}

void main() {
    vec3 moving = texture(u_moving, v_uv).xyz;
    vec3 moved = clamp(cubic(u_drawn, gl_FragCoord.xy - 0.5 + moving.xy * u_size / u_grid), 0.0, 1.0);
    vec3 lit = clamp(moved + texture(u_light, v_uv).rgb / 255.0, 0.0, 1.0);
    vec3 shown = clamp(cubic(u_picture, v_uv * u_grid - 0.5) / 255.0, 0.0, 1.0);
    f_colour = vec4(mix(lit, shown, moving.z), 1.0);
}
